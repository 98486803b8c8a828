/* SPDX-License-Identifier: MIT */
/* Worker pools: a queue, a few threads, and a way to wait for the queue. */
#include <stdlib.h>
#include <string.h>

#include "iomapfs/util.h"

struct work_pool {
	pthread_mutex_t lock;
	pthread_cond_t wake;  /* work was queued, or stop */
	pthread_cond_t idle;  /* nr_done moved */
	struct cds_list_head queue;
	uint64_t nr_queued;   /* items ever queued */
	uint64_t nr_done;     /* items ever finished */
	unsigned backlog;
	bool stop;
	unsigned nr_threads;
	char name[16];
	pthread_t threads[];
};

static void *worker(void *arg)
{
	struct work_pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct work *w;

		while (cds_list_empty(&p->queue) && !p->stop)
			pthread_cond_wait(&p->wake, &p->lock);
		if (cds_list_empty(&p->queue))
			break;
		w = cds_list_first_entry(&p->queue, struct work, list);
		cds_list_del(&w->list);
		p->backlog--;
		pthread_mutex_unlock(&p->lock);
		w->fn(w); /* may free or requeue w */
		pthread_mutex_lock(&p->lock);
		p->nr_done++;
		pthread_cond_broadcast(&p->idle);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int work_pool_create(const char *name, unsigned nr_threads, struct work_pool **out)
{
	struct work_pool *p = calloc(1, sizeof(*p) + nr_threads * sizeof(p->threads[0]));
	int err;

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	pthread_cond_init(&p->idle, NULL);
	CDS_INIT_LIST_HEAD(&p->queue);
	strncpy(p->name, name, sizeof(p->name) - 1);
	while (p->nr_threads < nr_threads) {
		err = pthread_create(&p->threads[p->nr_threads], NULL, worker, p);
		if (err) {
			work_pool_destroy(p);
			return -err;
		}
		pthread_setname_np(p->threads[p->nr_threads], p->name);
		p->nr_threads++;
	}
	*out = p;
	return 0;
}

void work_pool_destroy(struct work_pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->nr_threads; i++)
		pthread_join(p->threads[i], NULL);
	assert(cds_list_empty(&p->queue));
	pthread_cond_destroy(&p->idle);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void work_queue(struct work_pool *p, struct work *w)
{
	pthread_mutex_lock(&p->lock);
	cds_list_add_tail(&w->list, &p->queue);
	p->nr_queued++;
	p->backlog++;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

void work_pool_drain(struct work_pool *p)
{
	uint64_t target;

	pthread_mutex_lock(&p->lock);
	target = p->nr_queued;
	/*
	 * Items finish out of order on several threads, so nr_done reaching the
	 * target could count a later item; waiting for the queue to be level
	 * with everything queued so far is what is needed, and more is harmless.
	 */
	while (p->nr_done < target || p->nr_done < p->nr_queued)
		pthread_cond_wait(&p->idle, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

unsigned work_pool_backlog(struct work_pool *p)
{
	unsigned n;

	pthread_mutex_lock(&p->lock);
	n = p->backlog;
	pthread_mutex_unlock(&p->lock);
	return n;
}
