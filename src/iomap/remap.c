/* SPDX-License-Identifier: MIT */
/* Before two files come to share blocks: what may be asked, and are the contents equal? */
#include <string.h>

#include "iomap_private.h"

/* Contents of both sides at a time. */
#define COMPARE_PIECE (256u << 10)

int iomap_remap_checks(struct inode *in, uint64_t pos_in, struct inode *out, uint64_t pos_out,
		       uint64_t *len, bool dedupe)
{
	const uint64_t mask = i_blocksize(in) - 1;
	const uint64_t size_in = i_size_read(in), size_out = i_size_read(out);
	bool ends;

	if ((pos_in | pos_out) & mask)
		return -EINVAL;
	if (pos_in > size_in || *len > size_in - pos_in)
		return -EINVAL;
	if (*len == 0) {
		if (dedupe || pos_in == size_in)
			return 0;
		*len = size_in - pos_in;
	}
	if (pos_out > INT64_MAX || *len > INT64_MAX - pos_out)
		return -EFBIG;
	if (dedupe && (pos_out > size_out || *len > size_out - pos_out))
		return -EINVAL;
	if (in == out && pos_in < pos_out + *len && pos_out < pos_in + *len)
		return -EINVAL;
	if ((*len & mask) == 0)
		return 0;
	/*
	 * Part of a block is shared only as a whole block: what lies behind it must be behind the
	 * end of both files, where it is zero.
	 */
	ends = pos_in + *len == size_in && pos_out + *len >= size_out;
	if (ends)
		return 0;
	if (!dedupe)
		return -EINVAL;
	*len &= ~mask;
	return 0;
}

/* The folio of pos, uptodate, referenced and not locked: the caller's locks keep its contents. */
static int read_side(struct inode *inode, uint64_t pos, uint64_t len, const struct iomap_ops *ops,
		     struct folio **out)
{
	struct folio *f;
	int err;

	err = filemap_get_folio(&inode->i_mapping, pos, MIN(len, COMPARE_PIECE), FGP_WRITEBEGIN, &f);
	if (err)
		return err;
	err = iomap_read_folio(inode, f, ops);
	if (!err && !folio_test_uptodate(f))
		err = -EIO;
	if (err)
		folio_put(f);
	else
		*out = f;
	return err;
}

int iomap_remap_compare(struct inode *a, uint64_t pos_a, struct inode *b, uint64_t pos_b,
			uint64_t len, const struct iomap_ops *ops, bool *same)
{
	*same = true;
	while (len > 0 && *same) {
		struct folio *fa, *fb;
		size_t off_a, off_b, n;
		int err;

		err = read_side(a, pos_a, len, ops, &fa);
		if (err)
			return err;
		err = read_side(b, pos_b, len, ops, &fb);
		if (err) {
			folio_put(fa);
			return err;
		}
		off_a = offset_in_folio(fa, pos_a);
		off_b = offset_in_folio(fb, pos_b);
		n = MIN(folio_size(fa) - off_a, folio_size(fb) - off_b);
		n = MIN(n, len);
		*same = memcmp((char *)fa->data + off_a, (char *)fb->data + off_b, n) == 0;
		folio_put(fb);
		folio_put(fa);
		pos_a += n;
		pos_b += n;
		len -= n;
	}
	return 0;
}
