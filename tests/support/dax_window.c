/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "dax_window.h"
#include "iomapfs/util.h"

#define PAGE ((size_t)FOLIO_PAGE_SIZE)
#define HUGE_SIZE (PAGE << DAX_PMD_ORDER)

static struct dax_window *windows;
static _Thread_local sigjmp_buf *volatile escape;

#ifdef __SANITIZE_THREAD__
/* The signals here are faults of the thread's own: it holds nothing that the handler could want. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "report_signal_unsafe=0";
}
#endif

static void must(bool ok)
{
	if (!ok)
		abort();
}

/* ---- What the engine asks for ------------------------------------------------------------- */

static struct dax_window *win(struct dax_vma *vma)
{
	return container_of(vma, struct dax_window, vma);
}

static int insert(struct dax_vma *vma, uint64_t pgoff, uint64_t nr, uint64_t addr, bool writable)
{
	struct dax_window *w = win(vma);
	const uint64_t page = pgoff - vma->pgoff;
	char *at = w->mem + page * PAGE;
	void *got;

	must(pgoff >= vma->pgoff && page + nr <= vma->nr_pages);
	if (addr == IOMAP_NULL_ADDR)
		got = mmap(at, nr * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	else
		got = mmap(at, nr * PAGE, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED,
			   w->dev_fd, (off_t)addr);
	if (got != at)
		return -ENOMEM;
	w->nr_zero += addr == IOMAP_NULL_ADDR;
	memset(w->state + page, writable ? WIN_WRITE : WIN_READ, nr);
	for (uint64_t i = 0; i < nr; i++)
		w->addr[page + i] = addr == IOMAP_NULL_ADDR ? addr : addr + i * PAGE;
	return 0;
}

static void zap(struct dax_vma *vma, uint64_t pgoff, uint64_t nr)
{
	struct dax_window *w = win(vma);

	for (uint64_t i = pgoff - vma->pgoff; i < pgoff - vma->pgoff + nr; i++) {
		char *at = w->mem + i * PAGE;

		/* Pages of the area's own are not the file's. */
		if (w->state[i] == WIN_NONE || w->state[i] == WIN_OWN)
			continue;
		must(mmap(at, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
		w->state[i] = WIN_NONE;
	}
}

static void mkclean(struct dax_vma *vma, uint64_t pgoff, uint64_t nr)
{
	struct dax_window *w = win(vma);

	for (uint64_t i = pgoff - vma->pgoff; i < pgoff - vma->pgoff + nr; i++) {
		if (w->state[i] != WIN_WRITE)
			continue;
		must(!mprotect(w->mem + i * PAGE, PAGE, PROT_READ));
		w->state[i] = WIN_READ;
	}
}

static const struct dax_vma_ops window_ops = { .insert = insert, .zap = zap, .mkclean = mkclean };

/* ---- Faults ---------------------------------------------------------------------------------- */

static unsigned one_fault(struct dax_window *w, uint64_t page, bool write)
{
	char *at = w->mem + page * PAGE, *own = NULL;
	struct vm_fault vmf = {
		.vma = &w->vma, .pgoff = w->vma.pgoff + page, .flags = write ? FAULT_FLAG_WRITE : 0,
	};
	unsigned ret = VM_FAULT_FALLBACK;

	if (write && !(w->vma.flags & DAX_VM_SHARED))
		vmf.cow_page = own = malloc(PAGE);
	w->nr_faults++;
	if (w->try_huge && !own) {
		ret = w->fault(w->arg, &vmf, DAX_PMD_ORDER);
		w->nr_huge += ret == VM_FAULT_NOPAGE;
	}
	if (ret == VM_FAULT_FALLBACK)
		ret = w->fault(w->arg, &vmf, 0);
	if (ret == VM_FAULT_DONE_COW) {
		must(mmap(at, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			  0) == at);
		memcpy(at, own, PAGE);
		w->state[page] = WIN_OWN;
	}
	free(own);
	return ret;
}

static bool is_write(void *ctx, const struct dax_window *w, uint64_t page)
{
#ifdef __x86_64__
	return ((ucontext_t *)ctx)->uc_mcontext.gregs[REG_ERR] & 2;
#else
	return w->state[page] != WIN_NONE; /* first as a load, then as what it was */
#endif
}

static void on_segv(int sig, siginfo_t *si, void *ctx)
{
	struct dax_window *w = windows;
	const char *at = si->si_addr;
	uint64_t page;

	while (w && (at < w->mem || at >= w->mem + w->vma.nr_pages * PAGE))
		w = w->next;
	if (!w) {
		signal(SIGSEGV, SIG_DFL); /* a real one */
		return;
	}
	page = (uint64_t)(at - w->mem) / PAGE;
	if (one_fault(w, page, is_write(ctx, w, page)) & (VM_FAULT_NOPAGE | VM_FAULT_DONE_COW))
		return;
	must(escape);
	siglongjmp(*escape, 1);
}

/* ---- For tests --------------------------------------------------------------------------------- */

void dax_window_init(struct dax_window *w, struct inode *inode, uint64_t pgoff, uint64_t nr_pages,
		     unsigned flags, int dev_fd)
{
	struct sigaction sa = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO | SA_NODEFER };
	const size_t size = nr_pages * PAGE;
	uintptr_t raw, start;

	*w = (struct dax_window){ .dev_fd = dev_fd };
	raw = (uintptr_t)mmap(NULL, size + HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(raw != (uintptr_t)MAP_FAILED);
	start = ROUND_UP(raw, HUGE_SIZE);
	if (start > raw)
		munmap((void *)raw, start - raw);
	munmap((void *)(start + size), raw + HUGE_SIZE - start);
	w->mem = (char *)start;
	w->state = calloc(1, nr_pages);
	w->addr = calloc(nr_pages, sizeof(*w->addr));
	must(w->state && w->addr);
	w->vma = (struct dax_vma){
		.inode = inode, .pgoff = pgoff, .nr_pages = nr_pages, .start = start, .flags = flags,
		.ops = &window_ops,
	};
	sigemptyset(&sa.sa_mask);
	must(!sigaction(SIGSEGV, &sa, NULL));
	w->next = windows;
	windows = w;
}

void dax_window_destroy(struct dax_window *w)
{
	struct dax_window **p = &windows;

	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	munmap(w->mem, w->vma.nr_pages * PAGE);
	free(w->state);
	free(w->addr);
}

/*
 * Volatile and behind a call: the compiler knows nothing of what a touch may do. Bytes of a file, which whoever
 * writes them orders by locks of his own, or not at all.
 */
static __attribute__((noinline, no_sanitize("thread"))) bool touch(struct dax_window *w, uint64_t at, uint8_t *byte, bool store)
{
	volatile uint8_t *p = (volatile uint8_t *)w->mem + at;
	sigjmp_buf env;

	if (sigsetjmp(env, 1)) {
		escape = NULL;
		return false;
	}
	escape = &env;
	if (store)
		*p = *byte;
	else
		*byte = *p;
	escape = NULL;
	return true;
}

bool dax_window_load(struct dax_window *w, uint64_t at, uint8_t *byte)
{
	return touch(w, at, byte, false);
}

bool dax_window_store(struct dax_window *w, uint64_t at, uint8_t byte)
{
	return touch(w, at, &byte, true);
}
