// SPDX-License-Identifier: MIT
/*
 * The sandbox, in children of our own that enter it: what every thread has given up, what still
 * works, and how a call that is not allowed ends.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox.h"
#include "unit.h"

static const char *what;

/* How a child ends that runs fn in the sandbox: its exit code, or minus the signal. */
static int in_child(enum fz_sandbox mode, int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDERR_FILENO);
		if (fz_sandbox_enter(mode, &what) < 0)
			_exit(99);
		_exit(fn());
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int nothing(void)
{
	return 0;
}

static int run_a_program(void)
{
	execl("/bin/true", "true", NULL);
	return errno == EPERM ? 10 : 11;
}

static int make_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

static int open_a_file(void)
{
	return open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES ? 10 : 11;
}

static int fork_one(void)
{
	return fork() < 0;
}

static int kill_another(void)
{
	return kill(getppid(), 0);
}

static int talk_to_the_net(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) < 0;
}

/* What the daemon does all day, and what it does when an invariant is broken. */
static int live(void)
{
	void *p = malloc(8 << 20), *q;
	pthread_t t;

	if (!p || !(q = realloc(p, 32 << 20)))
		return 1;
	free(q);
	if (pthread_create(&t, NULL, (void *(*)(void *))(void *)pause, NULL) == 0)
		pthread_detach(t);
	return fcntl(0, F_GETFD) < -1;
}

static int die(void)
{
	abort();
}

START_TEST(test_filter)
{
	if (!fz_sandbox_has_filter()) {
		/* Nothing is silently left out for who insists. */
		ck_assert_int_eq(in_child(FZ_SANDBOX_ON, nothing), 99);
		ck_assert_int_eq(in_child(FZ_SANDBOX_DEFAULT, nothing), 0);
		return;
	}
	ck_assert_int_eq(in_child(FZ_SANDBOX_ON, nothing), 0);
	ck_assert_int_eq(in_child(FZ_SANDBOX_DEFAULT, run_a_program), -SIGSYS);
	ck_assert_int_eq(in_child(FZ_SANDBOX_LOG, run_a_program), 10);
	ck_assert_int_eq(in_child(FZ_SANDBOX_DEFAULT, make_code), -SIGSYS);
	ck_assert_int_eq(in_child(FZ_SANDBOX_DEFAULT, open_a_file), 10);
	ck_assert_int_eq(in_child(FZ_SANDBOX_DEFAULT, fork_one), -SIGSYS);
	ck_assert_int_eq(in_child(FZ_SANDBOX_DEFAULT, kill_another), -SIGSYS);
	ck_assert_int_eq(in_child(FZ_SANDBOX_DEFAULT, talk_to_the_net), -SIGSYS);
	ck_assert_int_eq(in_child(FZ_SANDBOX_DEFAULT, die), -SIGABRT);
}
END_TEST

#ifndef __SANITIZE_THREAD__
static void *wait_for_ever(void *arg)
{
	char c;

	(void)!read(*(int *)arg, &c, 1);
	return NULL;
}

static _Atomic unsigned nr_up;

static void *come_up(void *arg)
{
	atomic_fetch_add(&nr_up, 1);
	return wait_for_ever(arg);
}

/* One number of /proc/PID/task/TID/status. */
static unsigned long long status_of(pid_t pid, const char *tid, const char *field)
{
	unsigned long long v = ~0ull;
	char path[320], line[256];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, tid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)) && line[strlen(field)] == ':')
			v = strtoull(line + strlen(field) + 1, NULL, 16);
	fclose(f);
	return v;
}

static void child_with_threads(int fd)
{
	pthread_t t[3];
	int block[2];
	char c;

	if (pipe(block) < 0)
		_exit(1);
	for (int i = 0; i < 3; i++)
		if (pthread_create(&t[i], NULL, come_up, &block[0]))
			_exit(1);
	while (atomic_load(&nr_up) < 3)
		usleep(1000);
	c = fz_sandbox_enter(FZ_SANDBOX_DEFAULT, &what) == 0 ? 'y' : 'n';
	(void)!write(fd, &c, 1);
	wait_for_ever(&fd);
	_exit(0);
}

/*
 * Threads that were there before have given up as much as the one that asked. Not for
 * ThreadSanitizer, which keeps signals from threads that read: they cannot be asked.
 */
START_TEST(test_every_thread)
{
	char path[64], c;
	unsigned n = 0;
	struct dirent *e;
	int fds[2];
	pid_t pid;
	DIR *dir;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	pid = fork();
	if (pid == 0)
		child_with_threads(fds[1]);
	ck_assert_int_eq(read(fds[0], &c, 1), 1);
	ck_assert_int_eq(c, 'y');
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while ((e = readdir(dir))) {
		if (e->d_name[0] == '.')
			continue;
		ck_assert_uint_eq(status_of(pid, e->d_name, "CapPrm"), 0);
		ck_assert_uint_eq(status_of(pid, e->d_name, "CapEff"), 0);
		ck_assert_uint_eq(status_of(pid, e->d_name, "CapInh"), 0);
		ck_assert_uint_eq(status_of(pid, e->d_name, "NoNewPrivs"), 1);
		ck_assert_uint_eq(status_of(pid, e->d_name, "Seccomp"), fz_sandbox_has_filter() ? 2 : 0);
		n++;
	}
	closedir(dir);
	ck_assert_uint_ge(n, 4);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fds[0]);
	close(fds[1]);
}
END_TEST
#endif

START_TEST(test_still_lives)
{
	ck_assert_int_eq(in_child(FZ_SANDBOX_DEFAULT, live), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sandbox");
	TCase *t = tcase_create("sandbox");

	tcase_add_test(t, test_filter);
#ifndef __SANITIZE_THREAD__
	tcase_add_test(t, test_every_thread);
#endif
	tcase_add_test(t, test_still_lives);
	suite_add_tcase(s, t);
	return unit_run(s);
}
