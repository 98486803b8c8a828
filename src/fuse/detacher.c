// SPDX-License-Identifier: MIT
/*
 * The detacher: a process of a few lines that may do the one privileged thing a served mount
 * still needs, to take it down when the daemon is asked to end. It is forked before the daemon
 * has opened anything, reads no image and no request, and keeps the rights (or fusermount3, for
 * users who are not root) that the daemon itself gives up in sandbox.c.
 *
 *	daemon                          detacher
 *	one byte: detach            ->  umount2, or fusermount3 -u
 *	its answer, the exit code   <-
 *	end of file: gone           ->  ends; a dead mount stays for people to see
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mount_private.h"

/* Nobody waits for this process, and nobody must: not for its output, not for its files. */
static void let_go(int keep_fd, bool background)
{
	int null = background ? open("/dev/null", O_RDWR) : -1;

	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (dup2(keep_fd, 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) < 0 || close_range(4, ~0u, 0) < 0)
		_exit(FZ_EX_SYSTEM);
	prctl(PR_SET_NAME, "iomapfs-detach");
}

static void detacher_main(const char *target)
{
	sigset_t all;
	char ask;

	/* A terminal's or a service manager's signals are for the daemon, which then asks. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	while (read(3, &ask, 1) == 1) {
		const unsigned char answer = (unsigned char)-fz_target_detach(target);

		if (write(3, &answer, 1) != 1)
			break;
	}
	_exit(FZ_EX_OK);
}

int fz_detacher_start(struct fz_detacher *d, const char *target, bool background)
{
	int fds[2];
	pid_t pid;

	d->fd = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int error = -errno;

		close(fds[0]);
		close(fds[1]);
		return error;
	}
	if (pid == 0) {
		let_go(fds[1], background);
		detacher_main(target);
	}
	close(fds[1]);
	d->fd = fds[0];
	return 0;
}

int fz_detacher_ask(struct fz_detacher *d)
{
	const char ask = 'd';
	unsigned char answer;

	if (d->fd < 0 || send(d->fd, &ask, 1, MSG_NOSIGNAL) != 1 || recv(d->fd, &answer, 1, 0) != 1)
		return -EPIPE;
	return -answer;
}

void fz_detacher_end(struct fz_detacher *d)
{
	if (d->fd < 0)
		return;
	close(d->fd);
	d->fd = -1;
}
