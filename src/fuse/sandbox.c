// SPDX-License-Identifier: MIT
/*
 * The sandbox. What is served comes from strangers: images that someone else made, and requests
 * of any local user. Should one of them find a way to make the daemon do what it likes, there is
 * to be little that it can do.
 *
 * Capabilities belong to threads and the file system has threads before there is a mount, so
 * every thread gives up its own, in a signal handler. System call filters can be given to all
 * threads at once. io_uring takes no notice of such filters: the ring's own restrictions
 * (src/block/bd_uring.c) see to it that it only reads and writes.
 */
#include "sandbox.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "iomapfs/util.h"

#ifdef HAVE_SECCOMP
#include <linux/fs.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#endif

/* ---- Capabilities, and the way back to them ---------------------------------------------- */

#define DROP_SIGNAL SIGUSR2
#define DROP_WAIT_MS 5000u

static _Atomic int drops_left;
static _Atomic int drop_error;

static void drop_own(void)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[2] = {0};

	if (syscall(SYS_capset, &h, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		atomic_store(&drop_error, errno);
}

static void drop_handler(int sig)
{
	int saved = errno;

	drop_own();
	atomic_fetch_sub(&drops_left, 1);
	errno = saved;
}

#ifdef __SANITIZE_THREAD__

/* It holds the signals of a thread back while that reads: only the caller's own go then. */
static int signal_threads(void)
{
	return 0;
}

#else

/*
 * The kernel's own workers for our ring are listed among our threads but take no signals. They
 * work with the rights of whoever submitted the request.
 */
static bool is_kernel_worker(long tid)
{
	char path[64], comm[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/comm", tid);
	f = fopen(path, "re");
	if (f) {
		if (!fgets(comm, sizeof(comm), f))
			comm[0] = '\0';
		fclose(f);
	}
	return !strncmp(comm, "iou-", 4);
}

/* Every thread but this one; how many were asked, or -errno. */
static int signal_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	const pid_t self = gettid();
	struct dirent *e;
	int error = 0;

	if (!dir)
		return -errno;
	while (!error && (e = readdir(dir))) {
		const long tid = strtol(e->d_name, NULL, 10);

		if (!isdigit((unsigned char)e->d_name[0]) || tid == self || is_kernel_worker(tid))
			continue;
		atomic_fetch_add(&drops_left, 1);
		if (syscall(SYS_tgkill, getpid(), tid, DROP_SIGNAL) < 0) {
			atomic_fetch_sub(&drops_left, 1);
			/* One that ended meanwhile has nothing left to give up. */
			if (errno != ESRCH)
				error = -errno;
		}
	}
	closedir(dir);
	return error;
}

#endif

static int drop_capabilities(void)
{
	struct sigaction act = {.sa_handler = drop_handler, .sa_flags = SA_RESTART}, old;
	const struct timespec tick = {.tv_nsec = 1000000};
	unsigned waited = 0;
	int ret;

	sigfillset(&act.sa_mask);
	if (sigaction(DROP_SIGNAL, &act, &old) < 0)
		return -errno;
	atomic_store(&drops_left, 0);
	atomic_store(&drop_error, 0);
	ret = signal_threads();
	drop_own();
	while (atomic_load(&drops_left) > 0 && waited++ < DROP_WAIT_MS)
		nanosleep(&tick, NULL);
	if (ret == 0 && atomic_load(&drops_left) > 0)
		ret = -ETIMEDOUT; /* the handler stays: whoever comes late still drops its own */
	else
		sigaction(DROP_SIGNAL, &old, NULL);
	return ret ? ret : -atomic_load(&drop_error);
}

/* ---- System calls ----------------------------------------------------------------------- */

#ifdef HAVE_SECCOMP

/* What serving, flushing, logging and ending need, whatever the arguments. */
static const int allowed[] = {
	/* Requests and replies; the image where io_uring is not to be had. */
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(preadv),
	SCMP_SYS(preadv2), SCMP_SYS(pwritev), SCMP_SYS(pwritev2), SCMP_SYS(pread64),
	SCMP_SYS(pwrite64), SCMP_SYS(fdatasync), SCMP_SYS(fsync), SCMP_SYS(fallocate),
	SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register), SCMP_SYS(close), SCMP_SYS(fcntl),
	SCMP_SYS(poll), SCMP_SYS(ppoll),
	/* Memory. */
	SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(msync),
	/* Threads that wait, and end. */
	SCMP_SYS(futex), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_setaffinity), SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq), SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigtimedwait), SCMP_SYS(sigaltstack),
	/* The detacher; syslog on the connection it has. */
	SCMP_SYS(sendto), SCMP_SYS(recvfrom),
	/* What the C library asks about us and the machine. */
	SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid),
	SCMP_SYS(getegid), SCMP_SYS(getrandom), SCMP_SYS(sysinfo), SCMP_SYS(uname),
	SCMP_SYS(newfstatat), SCMP_SYS(fstat), SCMP_SYS(lseek),
};

/* Descriptor for the last words, or -1. */
static int last_words_fd = -1;

/* A call that is not allowed: say which one, then die of it as the default action would. */
static void violation(int sig, siginfo_t *info, void *ctx)
{
	char text[96];
	int n = snprintf(text, sizeof(text), "<27>iomapfs[%d]: killed: system call %d is not allowed\n",
			 (int)getpid(), info->si_syscall);

	if (write(STDERR_FILENO, text + 4, (size_t)n - 4) < 0 || last_words_fd < 0 ||
	    write(last_words_fd, text, (size_t)n - 1) < 0)
		sched_yield(); /* nobody listens */
	raise(SIGSYS);
}

static void prepare_last_words(void)
{
	struct sigaction act = {
		.sa_sigaction = violation,
		.sa_flags = SA_SIGINFO | (int)SA_RESETHAND | SA_NODEFER,
	};
	const struct sockaddr addr = {.sa_family = AF_UNIX, .sa_data = "/dev/log"};

	sigemptyset(&act.sa_mask);
	sigaction(SIGSYS, &act, NULL);
	last_words_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (last_words_fd >= 0 && connect(last_words_fd, &addr, sizeof(addr)) < 0) {
		close(last_words_fd);
		last_words_fd = -1;
	}
}

/* Calls whose arguments decide. */
static int add_conditional(scmp_filter_ctx ctx)
{
	int ret = 0;

	/* Memory that can be executed is not made any more. */
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, BLKDISCARD));
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, BLKZEROOUT));
	/* Threads, not processes. The flags of clone3 lie in memory: libc falls back to clone. */
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	/* Ourselves: abort() and raise(). */
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
	/* syslog(3) connects again when its daemon was restarted. */
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
				SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(connect), 0);
	/* malloc looks for the number of CPUs in files of /sys and /proc, and lives with a refusal. */
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(open), 0);
	ret |= seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0);
	return ret ? -EINVAL : 0;
}

static int filter_calls(bool only_log)
{
	scmp_filter_ctx ctx = seccomp_init(only_log ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_TRAP);
	int ret;

	if (!ctx)
		return -ENOMEM;
	/* Of all threads. What does not kill, and so says nothing itself, the kernel logs. */
	ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (ret == 0 && only_log)
		ret = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_LOG, 1);
	for (size_t i = 0; ret == 0 && i < ARRAY_SIZE(allowed); i++)
		ret = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	if (ret == 0)
		ret = add_conditional(ctx);
	if (ret == 0) {
		prepare_last_words();
		ret = seccomp_load(ctx);
	}
	seccomp_release(ctx);
	return ret;
}

#else

/* A build without libseccomp, or one whose sanitizer makes system calls of its own. */
static int filter_calls(bool only_log)
{
	return -EOPNOTSUPP;
}

#endif

bool fz_sandbox_has_filter(void)
{
#ifdef HAVE_SECCOMP
	return true;
#else
	return false;
#endif
}

/* ---- All of it ------------------------------------------------------------------------------ */

int fz_sandbox_enter(enum fz_sandbox mode, const char **what)
{
	int ret;

	assert(mode != FZ_SANDBOX_OFF);
	/* The time zone is a file: syslog(3) wants it, later it could not be read. */
	tzset();
	*what = "capabilities";
	ret = drop_capabilities();
	if (ret < 0)
		return ret;
	*what = "system call filter";
	ret = filter_calls(mode == FZ_SANDBOX_LOG);
	/* What this build cannot do was known when it was made. */
	return ret == -EOPNOTSUPP && mode == FZ_SANDBOX_DEFAULT ? 0 : ret;
}
