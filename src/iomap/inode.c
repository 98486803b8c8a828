/* SPDX-License-Identifier: MIT */
/* The engine's part of an inode, and its count of direct requests. */
#include "dax_private.h"

int iomap_inode_init(struct inode *inode, struct folio_cache *c,
		     const struct address_space_operations *aops, unsigned blkbits, uint64_t ino)
{
	int err;

	assert(blkbits >= 9 && blkbits <= 16);
	inode->i_ino = ino;
	inode->i_blkbits = blkbits;
	atomic_init(&inode->i_size, 0);
	atomic_init(&inode->i_dio_count, 0);
	atomic_init(&inode->i_ra_next, 0);
	atomic_init(&inode->i_ra_end, 0);
	atomic_init(&inode->i_dax, NULL);
	err = mapping_init(&inode->i_mapping, c, aops, inode);
	if (err)
		return err;
	inode->i_mapping.block_bytes = 1u << blkbits;
	/* A folio holds whole blocks: a block above the page size sets the smallest order. */
	mapping_set_folio_order_range(&inode->i_mapping,
				      blkbits > FOLIO_PAGE_SHIFT ? blkbits - FOLIO_PAGE_SHIFT : 0,
				      FOLIO_MAX_ORDER);
	lk_rw_init(&inode->i_rwsem, LK_IOLOCK, "i_rwsem");
	pthread_mutex_init(&inode->i_dio_lock, NULL);
	pthread_cond_init(&inode->i_dio_wait, NULL);
	return 0;
}

void iomap_inode_destroy(struct inode *inode)
{
	assert(atomic_load(&inode->i_dio_count) == 0);
	/* The last inode_dio_end may still be inside the lock. */
	pthread_mutex_lock(&inode->i_dio_lock);
	pthread_mutex_unlock(&inode->i_dio_lock);
	dax_mapping_destroy(inode);
	mapping_destroy(&inode->i_mapping);
	lk_rw_destroy(&inode->i_rwsem);
	pthread_cond_destroy(&inode->i_dio_wait);
	pthread_mutex_destroy(&inode->i_dio_lock);
}

void inode_dio_begin(struct inode *inode)
{
	atomic_fetch_add(&inode->i_dio_count, 1);
}

void inode_dio_end(struct inode *inode)
{
	pthread_mutex_lock(&inode->i_dio_lock);
	assert(atomic_load(&inode->i_dio_count));
	if (atomic_fetch_sub(&inode->i_dio_count, 1) == 1)
		pthread_cond_broadcast(&inode->i_dio_wait);
	pthread_mutex_unlock(&inode->i_dio_lock);
}

void inode_dio_wait(struct inode *inode)
{
	if (!atomic_load(&inode->i_dio_count))
		return;
	pthread_mutex_lock(&inode->i_dio_lock);
	while (atomic_load(&inode->i_dio_count))
		pthread_cond_wait(&inode->i_dio_wait, &inode->i_dio_lock);
	pthread_mutex_unlock(&inode->i_dio_lock);
}
