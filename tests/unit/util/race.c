/* SPDX-License-Identifier: MIT */
/* A race on purpose: ThreadSanitizer must see it, or its silence about all else means nothing. */
#include <pthread.h>
#include <stddef.h>

static int shared;

static void *bump(void *arg)
{
	for (int i = 0; i < 100000; i++)
		shared++;
	return arg;
}

int main(void)
{
	pthread_t a, b;

	pthread_create(&a, NULL, bump, NULL);
	pthread_create(&b, NULL, bump, NULL);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	return 0;
}
