/* SPDX-License-Identifier: MIT */
/* Touching memory that may be gone: SIGBUS inside a guarded call becomes -EIO. */
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include "dax_private.h"

struct guard {
	sigjmp_buf env;
	struct { const char *from, *to; } range[2];
};

/* Its first use may be in a handler: not the kind of memory that a shared library gets by malloc. */
static _Thread_local __attribute__((tls_model("initial-exec"))) struct guard *volatile current;
static struct sigaction before;

static bool is_guarded(const struct guard *g, const char *at)
{
	return (at >= g->range[0].from && at < g->range[0].to) ||
	       (at >= g->range[1].from && at < g->range[1].to);
}

static void on_sigbus(int sig, siginfo_t *si, void *ctx)
{
	struct guard *g = current;

	if (g && is_guarded(g, si->si_addr)) {
		/* The jump leaves the handler for good: with the signals that were let through before it. */
		pthread_sigmask(SIG_SETMASK, &((ucontext_t *)ctx)->uc_sigmask, NULL);
		siglongjmp(g->env, 1);
	}
	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(sig, si, ctx);
	} else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		before.sa_handler(sig);
	} else if (si->si_code > 0 || before.sa_handler == SIG_DFL) {
		sigaction(sig, &before, NULL); /* it happens again, without us */
		if (si->si_code <= 0)
			raise(sig); /* sent by a process, once */
	}
}

int dax_catch_sigbus(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	sigemptyset(&sa.sa_mask);
	return sigaction(SIGBUS, &sa, &before) ? -errno : 0;
}

static void set_range(struct guard *g, unsigned i, const char *mem, size_t len)
{
	/* Page by page is how the signal tells its place. */
	g->range[i].from = mem - ((uintptr_t)mem & (FOLIO_PAGE_SIZE - 1));
	g->range[i].to = mem + len;
}

int dax_guarded(const void *a, const void *b, size_t len, void (*fn)(void *arg), void *arg)
{
	struct guard g, *outer = current;

	set_range(&g, 0, a, len);
	set_range(&g, 1, b ? b : a, len);
	if (sigsetjmp(g.env, 0)) { /* no mask: a system call for each copy */
		current = outer;
		return -EIO;
	}
	current = &g;
	fn(arg);
	current = outer;
	return 0;
}
