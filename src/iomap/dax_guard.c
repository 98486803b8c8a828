/* SPDX-License-Identifier: MIT */
/* Touching memory that may be gone: SIGBUS inside a guarded call becomes -EIO. */
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include "dax_private.h"

struct guard {
	sigjmp_buf env;
	const char *from, *to;
};

static _Thread_local struct guard *volatile current;
static struct sigaction before;

static void on_sigbus(int sig, siginfo_t *si, void *ctx)
{
	struct guard *g = current;
	const char *at = si->si_addr;

	if (g && at >= g->from && at < g->to) {
		/* The jump leaves the handler for good: with the signals that were let through before it. */
		pthread_sigmask(SIG_SETMASK, &((ucontext_t *)ctx)->uc_sigmask, NULL);
		siglongjmp(g->env, 1);
	}
	if (before.sa_flags & SA_SIGINFO)
		before.sa_sigaction(sig, si, ctx);
	else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
		before.sa_handler(sig);
	else
		sigaction(sig, &before, NULL); /* it happens again, without us */
}

int dax_catch_sigbus(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	sigemptyset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, &before) ? -errno : 0;
}

int dax_guarded(const void *mem, size_t len, void (*fn)(void *arg), void *arg)
{
	struct guard g = { .from = mem, .to = (const char *)mem + len }, *outer = current;

	/* Page by page is how the signal tells its place. */
	g.from -= (uintptr_t)g.from & (FOLIO_PAGE_SIZE - 1);
	if (sigsetjmp(g.env, 0)) { /* no mask: a system call for each copy */
		current = outer;
		return -EIO;
	}
	current = &g;
	fn(arg);
	current = outer;
	return 0;
}
