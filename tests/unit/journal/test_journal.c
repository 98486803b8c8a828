/* SPDX-License-Identifier: MIT */
/* The journal without power cuts: handles, commits, checkpoints, space, aborts. */
#include <unistd.h>

#include "jt.h"

START_TEST(test_sizes)
{
	uint64_t min = jnl_min_mblks();

	ck_assert_uint_ge(min, 4 * JNL_MAX_CREDITS + 1);
	ck_assert_uint_eq(jnl_default_mblks(16ull << 20), min);
	ck_assert_uint_eq(jnl_default_mblks(1ull << 30), (64ull << 20) / 4096);
	ck_assert_uint_eq(jnl_default_mblks(1ull << 40), (512ull << 20) / 4096);
	ck_assert_uint_lt(min * 4096, 16ull << 20 >> 1);
}
END_TEST

START_TEST(test_commit_reopen)
{
	struct jt t;
	bool flushed;
	jnl_tid_t tid;

	jt_init(&t);
	jt_open(&t);
	tid = jt_put(&t, 1, 11, true);
	ck_assert(!jnl_tid_committed(t.j, tid));
	ck_assert_int_eq(jnl_commit_wait(t.j, tid, &flushed), 0);
	ck_assert(flushed && jnl_tid_committed(t.j, tid));
	/* Nothing new: no commit, no flush. */
	ck_assert_int_eq(jnl_commit_wait(t.j, jnl_running_tid(t.j), &flushed), 0);
	ck_assert(!flushed);
	ck_assert_uint_eq(jt_read(&t, 1), 11);
	ck_assert_uint_eq(jt_on_disk(&t, 1), 0);
	ck_assert_int_eq(jt_close(&t), 0);
	ck_assert_uint_eq(jt_on_disk(&t, 1), 11);
	jt_open(&t);
	ck_assert_uint_eq(jt_read(&t, 1), 11);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

START_TEST(test_replay_and_uncommitted)
{
	struct jnl_stats st;
	struct jt t;

	jt_init(&t);
	jt_open(&t);
	jt_put(&t, 1, 11, true);
	jt_commit(&t);
	jt_put(&t, 1, 12, false);
	jt_put(&t, 2, 22, true);
	jt_commit(&t);
	jt_put(&t, 1, 13, false); /* never committed */
	jt_die(&t);
	ck_assert_uint_eq(jt_on_disk(&t, 1), 0);
	jt_open(&t);
	jnl_get_stats(t.j, &st);
	ck_assert_uint_eq(st.replayed_transactions, 2);
	ck_assert_uint_eq(st.replayed_blocks, 2);
	ck_assert_uint_eq(jt_read(&t, 1), 12);
	ck_assert_uint_eq(jt_read(&t, 2), 22);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_open(&t);
	jnl_get_stats(t.j, &st);
	ck_assert_uint_eq(st.replayed_transactions, 0);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* J4: what is in the running transaction does not reach its place by a checkpoint. */
START_TEST(test_checkpoint_writes_committed_image)
{
	struct jnl_stats st = { 0 };
	struct jnl_handle *h;
	struct jt t;
	int i;

	jt_init(&t);
	t.params.commit_interval_ms = 20; /* an idle checkpoint after 40 ms */
	jt_open(&t);
	jt_put(&t, 1, 11, true);
	jt_commit(&t);
	h = jt_start(&t, 1);
	jt_change(&t, h, 1, 12);
	for (i = 0; i < 500 && st.checkpointed == 0; i++) {
		usleep(10000);
		jnl_get_stats(t.j, &st);
	}
	ck_assert_uint_eq(jt_on_disk(&t, 1), 11);
	jnl_stop(h);
	ck_assert_int_eq(jnl_checkpoint(t.j), 0);
	ck_assert_uint_eq(jt_on_disk(&t, 1), 12);
	jnl_get_stats(t.j, &st);
	ck_assert_uint_eq(st.log_free, st.log_blocks);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* J8: what does not fit beside the worst case of what is there goes into the next transaction. */
START_TEST(test_credits)
{
	struct jnl_handle *h, *h2;
	struct jt t;
	jnl_tid_t tid;

	jt_init(&t);
	jt_open(&t);
	ck_assert_int_eq(jnl_start(t.j, JNL_MAX_CREDITS + 1, 0, &h), -EINVAL);
	h = jt_start(&t, 3);
	jt_create(&t, h, 1, 1);
	jt_change(&t, h, 1, 2); /* again in the same transaction: free */
	ck_assert_uint_eq(jnl_credits_left(h), 2);
	ck_assert_int_eq(jnl_extend(h, 5), 0);
	ck_assert_uint_eq(jnl_credits_left(h), 7);
	tid = jnl_stop(h);
	/* A quarter of the ring is the limit of one transaction. As much as a transaction holds beside that one block does not fit: a new one. */
	ck_assert_int_eq(jnl_start(t.j, JNL_MAX_CREDITS, JNL_NOWAIT, &h2), -EAGAIN);
	h2 = jt_start(&t, JNL_MAX_CREDITS);
	ck_assert_uint_eq(jnl_handle_tid(h2), tid + 1);
	ck_assert_int_eq(jnl_extend(h2, 1), -EAGAIN);
	ck_assert_uint_eq(jnl_credits_left(h2), JNL_MAX_CREDITS);
	jnl_stop(h2);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* J3, J7: the requests themselves, in their order and with their flags. */
START_TEST(test_order_of_requests)
{
	const uint64_t jsb_at = JT_JNL_START * 4096ull;
	const uint64_t log_end = (JT_JNL_START + jnl_min_mblks()) * 4096ull;
	const unsigned barrier = BD_PREFLUSH | BD_FUA;
	const struct bd_trace_rec *recs;
	struct jt t;
	size_t n;

	jt_init(&t);
	ck_assert_int_eq(bd_trace_create(t.mem, NULL, &t.dev), 0);
	jt_open(&t);
	bd_trace_reset(t.dev);
	jt_put(&t, 1, 11, true);
	ck_assert_int_eq(jnl_checkpoint(t.j), 0);
	n = bd_trace_get(t.dev, &recs);
	/* DESC and image in one write, COMMIT, the block in its place, the superblock. */
	ck_assert_uint_eq(n, 4);
	ck_assert(recs[0].offset > jsb_at && recs[0].offset < log_end);
	ck_assert_uint_eq(recs[0].len, 2 * 4096);
	ck_assert_uint_eq(recs[1].offset, recs[0].offset + 2 * 4096);
	ck_assert_uint_eq(recs[1].flags & barrier, barrier);
	ck_assert_uint_eq(recs[2].offset, jt_mblk(1) * 4096);
	ck_assert_uint_eq(recs[3].offset, jsb_at);
	ck_assert_uint_eq(recs[3].flags & barrier, barrier);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

struct counted_cb {
	struct jnl_commit_cb cb;
	int calls, error;
};
static void count_cb(struct jnl_commit_cb *cb, int error)
{
	struct counted_cb *c = container_of(cb, struct counted_cb, cb);

	c->calls++;
	c->error = error;
}

START_TEST(test_callbacks)
{
	struct counted_cb a = { .cb.fn = count_cb }, b = { .cb.fn = count_cb };
	struct jnl_handle *h;
	struct jt t;

	jt_init(&t);
	jt_open(&t);
	h = jt_start(&t, 1);
	jnl_on_commit(h, &a.cb);
	jnl_stop(h);
	ck_assert_int_eq(a.calls, 0);
	jt_commit(&t);
	ck_assert_int_eq(a.calls, 1);
	ck_assert_int_eq(a.error, 0);
	h = jt_start(&t, 1);
	jnl_on_commit(h, &b.cb);
	jnl_stop(h);
	jt_die(&t);
	ck_assert_int_eq(b.calls, 1);
	ck_assert_int_eq(b.error, -EIO);
	jt_fini(&t);
}
END_TEST

START_TEST(test_timer_commits)
{
	struct jt t;
	jnl_tid_t tid;

	jt_init(&t);
	t.params.commit_interval_ms = 30;
	jt_open(&t);
	tid = jt_put(&t, 1, 1, true);
	for (int i = 0; i < 500 && !jnl_tid_committed(t.j, tid); i++)
		usleep(10000);
	ck_assert(jnl_tid_committed(t.j, tid));
	tid = jt_put(&t, 1, 2, false);
	jnl_commit_async(t.j, tid);
	for (int i = 0; i < 500 && !jnl_tid_committed(t.j, tid); i++)
		usleep(1000);
	ck_assert(jnl_tid_committed(t.j, tid));
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* J7: the log goes round many times, and only the checkpoint makes room. */
START_TEST(test_wrap)
{
	enum { ROUNDS = 600, BLOCKS = 40 };
	struct jnl_stats st;
	struct jt t;

	jt_init(&t);
	jt_open(&t);
	for (unsigned r = 1; r <= ROUNDS; r++) {
		struct jnl_handle *h = jt_start(&t, BLOCKS);

		for (unsigned i = 0; i < BLOCKS; i++)
			(r <= 10 ? jt_create : jt_change)(&t, h, (r % 10) * BLOCKS + i, r);
		jnl_stop(h);
		if (r % 3 == 0)
			jnl_commit_async(t.j, jnl_running_tid(t.j));
	}
	jnl_get_stats(t.j, &st);
	ck_assert_uint_gt(st.blocks_logged, 3 * st.log_blocks);
	jt_commit(&t);
	jt_die(&t);
	jt_open(&t);
	for (unsigned r = ROUNDS - 9; r <= ROUNDS; r++)
		for (unsigned i = 0; i < BLOCKS; i++)
			ck_assert_uint_eq(jt_read(&t, (r % 10) * BLOCKS + i), r);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* A log with room for everything, and memory for less: the images go to their places meanwhile. */
START_TEST(test_memory)
{
	enum { HANDLES = 80, BLOCKS = 100, JNL_START = 12000, JNL_LEN = 16000, MOST = 3072 };
	void *page = aligned_alloc(4096, 4096);
	struct buf_cache_stats st;
	struct jnl_stats jst;
	struct jt t;

	jt_init(&t);
	bd_close(t.mem);
	ck_assert_int_eq(bd_mem_create(30000 * 4096ull, 512, &t.mem), 0);
	t.dev = t.mem;
	t.ctx.dev_mblks = t.ctx.nr_blocks = t.ctx.ag_blocks = 30000;
	t.ctx.jnl_start = JNL_START;
	t.ctx.jnl_len = JNL_LEN;
	jnl_format_sb(&t.ctx, page);
	ck_assert_int_eq(bd_write(t.mem, JNL_START * 4096ull, page, 4096, 0), 0);
	free(page);
	t.params.memory_bytes = 1;
	jt_open(&t);
	for (unsigned r = 0; r < HANDLES; r++) {
		struct jnl_handle *h = jt_start(&t, BLOCKS);

		for (unsigned i = 0; i < BLOCKS; i++)
			jt_create(&t, h, r * BLOCKS + i, r + 1);
		jnl_stop(h);
		buf_cache_get_stats(t.bc, &st);
		ck_assert_uint_le(st.pinned, MOST);
	}
	jt_commit(&t);
	jnl_get_stats(t.j, &jst);
	ck_assert_uint_ge(jst.blocks_logged, HANDLES * BLOCKS);
	ck_assert_int_eq(jt_close(&t), 0);
	for (unsigned i = 0; i < HANDLES * BLOCKS; i++)
		ck_assert_uint_eq(jt_on_disk(&t, i), i / BLOCKS + 1);
	jt_fini(&t);
}
END_TEST

static void abort_seen(void *arg, int err, const char *why)
{
	ck_assert_str_ne(why, "");
	atomic_fetch_add((_Atomic int *)arg, err);
}

/* J11: a failed log write stops everything; waiters hear of it; nothing is half done. */
START_TEST(test_abort_on_log_error)
{
	struct bd_fault_rule rule = {
		.op = BD_WRITE, .start = (JT_JNL_START + 1) * 4096ull,
		.end = (JT_JNL_START + jnl_min_mblks()) * 4096ull, .after = _i,
		.count = UINT64_MAX, .error = -EIO,
	};
	struct jnl_handle *h;
	_Atomic int seen = 0;
	struct jt t;
	jnl_tid_t tid;

	jt_init(&t);
	ck_assert_int_eq(bd_fault_create(t.mem, &t.dev), 0);
	jt_open(&t);
	jnl_set_abort_fn(t.j, abort_seen, &seen);
	jt_put(&t, 1, 11, true);
	ck_assert_int_eq(jnl_checkpoint(t.j), 0);
	bd_fault_set(t.dev, &rule, 1);
	tid = jt_put(&t, 1, 12, false);
	ck_assert_int_eq(jnl_commit_wait(t.j, tid, NULL), -EIO);
	ck_assert(jnl_aborted(t.j));
	for (int i = 0; i < 500 && !atomic_load(&seen); i++)
		usleep(1000);
	ck_assert_int_eq(atomic_load(&seen), -EIO);
	ck_assert_int_eq(jnl_start(t.j, 1, 0, &h), -EROFS);
	ck_assert_int_eq(jt_close(&t), -EIO);
	bd_fault_set(t.dev, NULL, 0);
	jt_open(&t);
	ck_assert_uint_eq(jt_read(&t, 1), 11);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* J11: so does a failed write to its place. */
START_TEST(test_abort_on_checkpoint_error)
{
	struct bd_fault_rule rule = {
		.op = BD_WRITE, .start = jt_mblk(1) * 4096, .end = jt_mblk(2) * 4096,
		.count = UINT64_MAX, .error = -EIO,
	};
	struct jt t;

	jt_init(&t);
	ck_assert_int_eq(bd_fault_create(t.mem, &t.dev), 0);
	jt_open(&t);
	bd_fault_set(t.dev, &rule, 1);
	jt_put(&t, 1, 11, true);
	jt_commit(&t); /* the log takes it */
	ck_assert_int_eq(jnl_checkpoint(t.j), -EIO);
	ck_assert_int_eq(jt_close(&t), -EIO);
	bd_fault_set(t.dev, NULL, 0);
	jt_open(&t); /* and replay gives it back */
	ck_assert_uint_eq(jt_read(&t, 1), 11);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* J9: a block that its verifier refuses never becomes durable. */
START_TEST(test_bad_block_stops_commit)
{
	struct jnl_handle *h;
	struct buf *b;
	struct jt t;
	jnl_tid_t tid;

	jt_init(&t);
	jt_open(&t);
	h = jt_start(&t, 1);
	ck_assert_int_eq(buf_new(t.bc, jt_mblk(1), JT_OWNER, &buf_ops_blob, &b), 0);
	jnl_get_create(h, b);
	jt_set(b, 1);
	jt_blob(b)->len = le32_make(OD_BLOB_DATA + 1);
	buf_put(b);
	tid = jnl_stop(h);
	ck_assert_int_eq(jnl_commit_wait(t.j, tid, NULL), -EFSCORRUPTED);
	ck_assert_int_eq(jt_close(&t), -EFSCORRUPTED);
	jt_open(&t);
	ck_assert_uint_eq(jt_on_disk(&t, 1), 0);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* J11: an open handle ends normally after an abort, and is not committed. */
START_TEST(test_abort_with_open_handle)
{
	struct jnl_handle *h;
	struct jt t;
	jnl_tid_t tid;

	jt_init(&t);
	jt_open(&t);
	h = jt_start(&t, 2);
	jt_create(&t, h, 1, 1);
	jnl_abort(t.j, -EIO, "test");
	jnl_abort(t.j, -ENOSPC, "the first one counts");
	jt_create(&t, h, 2, 2);
	tid = jnl_stop(h);
	ck_assert_int_eq(jnl_commit_wait(t.j, tid, NULL), -EIO);
	ck_assert_int_eq(jnl_checkpoint(t.j), -EIO);
	ck_assert_int_eq(jt_close(&t), -EIO);
	jt_open(&t);
	ck_assert_uint_eq(jt_on_disk(&t, 1), 0);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* J10: readonly looks through the journal and writes nothing. */
START_TEST(test_readonly_replay)
{
	const struct bd_trace_rec *recs;
	struct jnl_handle *h;
	struct jt t;
	size_t n;

	jt_init(&t);
	jt_open(&t);
	jt_put(&t, 1, 11, true);
	ck_assert_int_eq(jnl_checkpoint(t.j), 0);
	jt_put(&t, 1, 12, false);
	jt_put(&t, 2, 22, true);
	jt_commit(&t);
	jt_die(&t);
	ck_assert_int_eq(bd_trace_create(t.mem, NULL, &t.dev), 0);
	t.params.readonly = true;
	jt_open(&t);
	buf_cache_shrink(t.bc);
	ck_assert_uint_eq(jt_read(&t, 1), 12);
	ck_assert_uint_eq(jt_read(&t, 2), 22);
	ck_assert_int_eq(jnl_start(t.j, 1, 0, &h), -EROFS);
	ck_assert_int_eq(jnl_commit_wait(t.j, jnl_running_tid(t.j), NULL), 0);
	ck_assert_int_eq(jnl_checkpoint(t.j), 0);
	ck_assert_int_eq(jt_close(&t), 0);
	t.params.norecovery = true;
	jt_open(&t);
	ck_assert_uint_eq(jt_read(&t, 1), 11);
	ck_assert_int_eq(jt_close(&t), 0);
	n = bd_trace_get(t.dev, &recs);
	ck_assert_uint_gt(n, 0);
	for (size_t i = 0; i < n; i++)
		ck_assert_int_eq(recs[i].op, BD_READ);
	ck_assert_uint_eq(jt_on_disk(&t, 1), 11);
	jt_fini(&t);
}
END_TEST

START_TEST(test_damaged_jsb)
{
	struct jt t;

	jt_init(&t);
	((char *)bd_mem_base(t.mem))[JT_JNL_START * 4096 + 70] ^= 1;
	ck_assert_int_eq(jt_try_open(&t), -EFSCORRUPTED);
	t.params.readonly = true;
	ck_assert_int_eq(jt_try_open(&t), -EFSCORRUPTED);
	t.params.norecovery = true;
	jt_open(&t);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("journal");
	TCase *tc = tcase_create("journal");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_sizes);
	tcase_add_test(tc, test_commit_reopen);
	tcase_add_test(tc, test_replay_and_uncommitted);
	tcase_add_test(tc, test_checkpoint_writes_committed_image);
	tcase_add_test(tc, test_order_of_requests);
	tcase_add_test(tc, test_credits);
	tcase_add_test(tc, test_callbacks);
	tcase_add_test(tc, test_timer_commits);
	tcase_add_test(tc, test_wrap);
	tcase_add_test(tc, test_memory);
	tcase_add_loop_test(tc, test_abort_on_log_error, 0, 2);
	tcase_add_test(tc, test_abort_on_checkpoint_error);
	tcase_add_test(tc, test_bad_block_stops_commit);
	tcase_add_test(tc, test_abort_with_open_handle);
	tcase_add_test(tc, test_readonly_replay);
	tcase_add_test(tc, test_damaged_jsb);
	suite_add_tcase(s, tc);
	return unit_run(s);
}
