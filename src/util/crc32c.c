/* SPDX-License-Identifier: MIT */
/* CRC32C; a file of its own, since the engine (libiomap) needs none and so no ISA-L. */
#include <isa-l/crc.h>

#include "iomapfs/util.h"

uint32_t crc32c_update(uint32_t crc, const void *buf, size_t len_bytes)
{
	/* ISA-L takes an int length and a mutable pointer it does not write through. */
	unsigned char *p = (unsigned char *)(uintptr_t)buf;

	while (len_bytes > 0) {
		int n = len_bytes > (1 << 30) ? (1 << 30) : (int)len_bytes;

		crc = crc32_iscsi(p, n, crc);
		p += n;
		len_bytes -= (size_t)n;
	}
	return crc;
}
