/* SPDX-License-Identifier: MIT */
/* Log lines: formatted once here, handed to one sink. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "iomapfs/util.h"

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static log_sink_fn sink_fn;
static void *sink_arg;
static _Atomic int max_level = LOG_LVL_INFO;

void log_stderr(enum log_level lvl, const char *line, void *arg)
{
	static const char *const tag[] = { "error: ", "warning: ", "", "debug: " };

	fprintf(stderr, "%s: %s%s\n", program_invocation_short_name, tag[lvl], line);
}

void log_set_sink(log_sink_fn fn, void *arg)
{
	pthread_mutex_lock(&sink_lock);
	sink_fn = fn;
	sink_arg = arg;
	pthread_mutex_unlock(&sink_lock);
}

void log_set_level(enum log_level max)
{
	atomic_store(&max_level, (int)max);
}

void log_msg(enum log_level lvl, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int saved = errno;

	if ((int)lvl > atomic_load(&max_level))
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&sink_lock);
	if (sink_fn)
		sink_fn(lvl, line, sink_arg);
	pthread_mutex_unlock(&sink_lock);
	errno = saved;
}

bool log_ratelimit_ok(struct log_ratelimit *rl, unsigned burst)
{
	const uint64_t window_ns = 5ull * 1000000000;
	uint64_t now = clock_mono_ns();
	uint64_t start = atomic_load(&rl->window_start_ns);

	if (now - start > window_ns &&
	    atomic_compare_exchange_strong(&rl->window_start_ns, &start, now))
		atomic_store(&rl->count, 0);
	return atomic_fetch_add(&rl->count, 1) < burst;
}
