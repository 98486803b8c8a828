/* SPDX-License-Identifier: MIT */
/* How far fsck is: a bar, or lines for a program that draws one. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fsck_progress.h"

#define WIDTH 40u

static void take_away(struct fsck_progress *p)
{
	if (!p->drawn)
		return;
	/* Carriage return, and erase to the end of the line. */
	fputs("\r\033[K", stdout);
	p->drawn = false;
}

static void draw(struct fsck_progress *p, unsigned pass, unsigned percent)
{
	static const char full[WIDTH + 1] = "========================================";
	const int n = (int)(percent * WIDTH / 100);

	printf("\r%s: pass %u of 5 |%.*s%*s| %3u%%", p->path, pass, n, full, (int)WIDTH - n, "", percent);
	fflush(stdout);
	p->drawn = true;
}

void fsck_progress_tell(void *arg, unsigned pass, uint64_t done, uint64_t total)
{
	const unsigned percent = total ? (unsigned)((double)done * 100 / (double)total) : 0;
	struct fsck_progress *p = arg;

	/* A pass that goes over everything twice does not go back. */
	if (pass == p->pass && percent <= p->percent)
		return;
	p->pass = pass;
	p->percent = percent;
	if (p->fd == 0)
		draw(p, pass, percent);
	else
		dprintf(p->fd, "%u %llu %llu %s\n", pass, (unsigned long long)done, (unsigned long long)total,
			p->path);
}

static ssize_t write_under(void *cookie, const char *buf, size_t len)
{
	struct fsck_progress *p = cookie;

	take_away(p);
	return (ssize_t)fwrite(buf, 1, len, stdout);
}

int fsck_progress_begin(struct fsck_progress *p, const char *path, int fd, FILE **out)
{
	const cookie_io_functions_t io = { .write = write_under };
	FILE *f;

	*p = (struct fsck_progress){ .path = path, .fd = fd };
	if (fd > 0)
		return fcntl(fd, F_GETFL) < 0 || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY ? -EBADF : 0;
	f = fopencookie(p, "w", io);
	if (!f)
		return -ENOMEM;
	setvbuf(f, NULL, _IOLBF, 0);
	*out = f;
	return 0;
}

void fsck_progress_end(struct fsck_progress *p, FILE *out)
{
	if (p->fd != 0)
		return;
	fclose(out);
	take_away(p);
	fflush(stdout);
}
