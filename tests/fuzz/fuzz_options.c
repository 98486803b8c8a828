/* SPDX-License-Identifier: MIT */
/* Mount options, as fstab, mount(8), remounts and their ioctl hand them over. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *list = malloc(size + 1), *err = malloc(80);
	struct fz_options o;
	uint64_t bytes;

	if (!list || !err)
		abort();
	if (size)
		memcpy(list, data, size);
	list[size] = '\0';
	fz_options_init(&o);
	if (fz_options_parse(&o, list, err, 80) < 0)
		assert(memchr(err, '\0', 80));
	fz_parse_size(list, &bytes);
	free(list);
	free(err);
	return 0;
}
