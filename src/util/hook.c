/* SPDX-License-Identifier: MIT */
/* Named hook points: a short table that tests fill, empty in real use. */
#include <string.h>

#include "iomapfs/util.h"

#define HOOKS_MAX 16

_Atomic unsigned hook_nr_installed;

static pthread_mutex_t hooks_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	const char *name;
	hook_fn fn;
	void *arg;
} hooks[HOOKS_MAX];

int hook_install(const char *name, hook_fn fn, void *test_arg)
{
	int err = -ENOSPC;

	pthread_mutex_lock(&hooks_lock);
	for (unsigned i = 0; i < HOOKS_MAX; i++) {
		if (hooks[i].name)
			continue;
		hooks[i].name = name;
		hooks[i].fn = fn;
		hooks[i].arg = test_arg;
		atomic_fetch_add(&hook_nr_installed, 1);
		err = 0;
		break;
	}
	pthread_mutex_unlock(&hooks_lock);
	return err;
}

void hook_remove(const char *name)
{
	pthread_mutex_lock(&hooks_lock);
	for (unsigned i = 0; i < HOOKS_MAX; i++) {
		if (hooks[i].name && !strcmp(hooks[i].name, name)) {
			hooks[i].name = NULL;
			atomic_fetch_sub(&hook_nr_installed, 1);
		}
	}
	pthread_mutex_unlock(&hooks_lock);
}

void hook_fire(const char *name, void *site_arg)
{
	hook_fn fn = NULL;
	void *arg = NULL;

	pthread_mutex_lock(&hooks_lock);
	for (unsigned i = 0; i < HOOKS_MAX; i++) {
		if (hooks[i].name && !strcmp(hooks[i].name, name)) {
			fn = hooks[i].fn;
			arg = hooks[i].arg;
		}
	}
	pthread_mutex_unlock(&hooks_lock);
	if (fn)
		fn(name, site_arg, arg);
}
