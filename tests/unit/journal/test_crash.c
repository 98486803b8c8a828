/* SPDX-License-Identifier: MIT */
/*
 * The journal and the power cut: torn tails, revokes, cuts at any write, threads.
 * The model: every transaction gives a whole group of blocks one stamp, so after any
 * cut all blocks of a group must agree, and no acknowledged stamp may be missing.
 */
#include <pthread.h>
#include <unistd.h>

#include "jt.h"

/* ---- Torn tails -------------------------------------------------------------------------- */

/* J2: whichever block of the last transaction is missing or torn, replay ends before it. */
START_TEST(test_torn_tail)
{
	uint64_t head, nr;
	struct jt t;
	char *ring;

	/* DESC, 3 images, REVOKE, COMMIT: each once zeroed, once with a flipped bit. */
	for (nr = 0; nr < 6; nr++) {
		for (unsigned how = 0; how < 2; how++) {
			struct jnl_stats st;
			struct jnl_handle *h;

			jt_init(&t);
			jt_open(&t);
			for (unsigned i = 1; i <= 3; i++)
				jt_put(&t, i, 10 + i, true);
			jt_commit(&t);
			jnl_get_stats(t.j, &st);
			head = st.log_blocks - st.log_free;
			h = jt_start(&t, 4);
			for (unsigned i = 1; i <= 3; i++)
				jt_change(&t, h, i, 20 + i);
			jnl_forget(h, jt_mblk(9));
			jnl_stop(h);
			jt_commit(&t);
			jnl_get_stats(t.j, &st);
			ck_assert_uint_eq(st.log_blocks - st.log_free, head + 6);
			jt_die(&t);
			ring = (char *)bd_mem_base(t.mem) + (JT_JNL_START + 1) * 4096ull;
			if (how)
				ring[(head + nr) * 4096 + 2000] ^= 4;
			else
				memset(ring + (head + nr) * 4096, 0, 4096);
			jt_open(&t);
			jnl_get_stats(t.j, &st);
			ck_assert_uint_eq(st.replayed_transactions, 1);
			for (unsigned i = 1; i <= 3; i++)
				ck_assert_uint_eq(jt_read(&t, i), 10 + i);
			ck_assert_int_eq(jt_close(&t), 0);
			jt_fini(&t);
		}
	}
}
END_TEST

/* A block of the record that is sound by itself, but not the one that was committed. */
START_TEST(test_chain_binds_record)
{
	struct jnl_stats st;
	struct jnl_handle *h;
	struct jt t;
	char *rev;

	jt_init(&t);
	jt_open(&t);
	h = jt_start(&t, 1);
	jt_create(&t, h, 1, 11);
	jnl_forget(h, jt_mblk(9));
	jnl_stop(h);
	jt_commit(&t);
	jt_die(&t);
	rev = (char *)bd_mem_base(t.mem) + (JT_JNL_START + 1 + 2) * 4096ull;
	ck_assert_uint_eq(le32_get(((struct od_hdr *)rev)->magic), OD_MAGIC_JREV);
	rev[OD_HDR_SIZE] ^= 1;
	od_seal(rev, le64_get(((struct od_hdr *)rev)->seq));
	jt_open(&t);
	jnl_get_stats(t.j, &st);
	ck_assert_uint_eq(st.replayed_transactions, 0);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/*
 * J5: with the middle one of three transactions rotten, the third lies whole behind the
 * end. New transactions of the same shape on top must not bring it back.
 */
START_TEST(test_no_stale_successor)
{
	struct jnl_stats st;
	struct jt t;
	char *ring;

	jt_init(&t);
	jt_open(&t);
	for (unsigned r = 1; r <= 3; r++) {
		jt_put(&t, 1, r, r == 1);
		jt_commit(&t);
	}
	jt_die(&t);
	ring = (char *)bd_mem_base(t.mem) + (JT_JNL_START + 1) * 4096ull;
	ring[3 * 4096 + 500] ^= 1;
	jt_open(&t);
	ck_assert_uint_eq(jt_read(&t, 1), 1);
	jt_put(&t, 1, 100, false);
	jt_commit(&t);
	jt_die(&t);
	jt_open(&t);
	jnl_get_stats(t.j, &st);
	ck_assert_uint_eq(st.replayed_transactions, 1);
	ck_assert_uint_eq(jt_read(&t, 1), 100);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* ---- Revokes ------------------------------------------------------------------------------- */

static void forget(struct jt *t, unsigned i)
{
	struct jnl_handle *h = jt_start(t, 1);

	jnl_forget(h, jt_mblk(i));
	jnl_stop(h);
}

static void write_data(struct jt *t, unsigned i, int byte)
{
	void *page = aligned_alloc(4096, 4096);

	memset(page, byte, 4096);
	ck_assert_int_eq(bd_write(t->dev, jt_mblk(i) * 4096, page, 4096, BD_FUA), 0);
	free(page);
}

static bool is_data(struct jt *t, unsigned i, int byte)
{
	const unsigned char *p = (unsigned char *)bd_mem_base(t->mem) + jt_mblk(i) * 4096;

	for (unsigned k = 0; k < 4096; k++)
		if (p[k] != byte)
			return false;
	return true;
}

/* J6: freed, then someone's data: neither checkpoint nor replay may write the old image. */
START_TEST(test_revoke_then_data)
{
	struct jt t;

	jt_init(&t);
	jt_open(&t);
	jt_put(&t, 1, 11, true);
	jt_put(&t, 2, 22, true);
	jt_commit(&t);
	forget(&t, 1);
	jt_commit(&t);
	write_data(&t, 1, 0xdd);
	if (_i == 0) {
		ck_assert_int_eq(jnl_checkpoint(t.j), 0);
		ck_assert(is_data(&t, 1, 0xdd));
	}
	jt_put(&t, 2, 23, false);
	jt_commit(&t);
	jt_die(&t);
	jt_open(&t);
	ck_assert(is_data(&t, 1, 0xdd));
	ck_assert_uint_eq(jt_read(&t, 2), 23);
	ck_assert_int_eq(jt_close(&t), 0);
	ck_assert(is_data(&t, 1, 0xdd));
	jt_fini(&t);
}
END_TEST

/* A revoke that is not committed means nothing: the block is still the old one's. */
START_TEST(test_uncommitted_revoke)
{
	struct jnl_stats st = { 0 };
	struct jnl_handle *h;
	struct jt t;

	jt_init(&t);
	if (_i == 1)
		t.params.commit_interval_ms = 20; /* checkpoints when idle for 40 ms */
	jt_open(&t);
	jt_put(&t, 1, 11, true);
	jt_commit(&t);
	h = jt_start(&t, 2);
	jnl_forget(h, jt_mblk(1));
	jt_create(&t, h, 1, 12);
	jnl_forget(h, jt_mblk(1));
	/* The checkpoint moves the tail meanwhile: 11 must be in its place by then. */
	for (int i = 0; _i == 1 && i < 500 && (!st.checkpointed || st.log_free < st.log_blocks); i++) {
		usleep(10000);
		jnl_get_stats(t.j, &st);
	}
	jnl_abort(t.j, -EIO, "power cut");
	jnl_stop(h);
	jt_close(&t);
	jt_open(&t);
	ck_assert_uint_eq(jt_read(&t, 1), 11);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

struct gate {
	_Atomic int reached, open;
};

static void hold_checkpoint(const char *name, void *site_arg, void *arg)
{
	struct gate *gate = arg;

	atomic_store(&gate->reached, 1);
	while (!atomic_load(&gate->open))
		usleep(1000);
}

static void *checkpoint_main(void *arg)
{
	struct jt *t = arg;

	ck_assert_int_eq(jnl_checkpoint(t->j), 0);
	return NULL;
}

/*
 * J6: an old image is on its way to its place while the block is freed. The commit of
 * the free has to wait for it, or it could land on the data of the next owner.
 */
START_TEST(test_revoke_waits_for_checkpoint)
{
	struct gate gate = { 0 };
	pthread_t th;
	struct jt t;
	jnl_tid_t tid;

	if (!IOMAPFS_DEBUG)
		return;
	jt_init(&t);
	jt_open(&t);
	jt_put(&t, 1, 11, true);
	jt_commit(&t);
	ck_assert_int_eq(hook_install("journal:checkpoint", hold_checkpoint, &gate), 0);
	ck_assert_int_eq(pthread_create(&th, NULL, checkpoint_main, &t), 0);
	while (!atomic_load(&gate.reached))
		usleep(1000);
	forget(&t, 1);
	tid = jnl_running_tid(t.j);
	jnl_commit_async(t.j, tid);
	usleep(50000);
	ck_assert(!jnl_tid_committed(t.j, tid));
	atomic_store(&gate.open, 1);
	ck_assert_int_eq(jnl_commit_wait(t.j, tid, NULL), 0);
	write_data(&t, 1, 0xdd);
	pthread_join(th, NULL);
	hook_remove("journal:checkpoint");
	ck_assert_int_eq(jt_close(&t), 0);
	ck_assert(is_data(&t, 1, 0xdd));
	jt_fini(&t);
}
END_TEST

/* Freed and made again: in the same transaction (0), or in a later one (1). */
START_TEST(test_revoke_then_create)
{
	struct jnl_stats st;
	struct jt t;

	jt_init(&t);
	jt_open(&t);
	jt_put(&t, 1, 11, true);
	jt_commit(&t);
	forget(&t, 1);
	if (_i == 1)
		jt_commit(&t);
	jt_put(&t, 1, 12, true);
	jt_commit(&t);
	jnl_get_stats(t.j, &st);
	ck_assert_uint_eq(st.revoked, _i);
	jt_die(&t);
	jt_open(&t);
	ck_assert_uint_eq(jt_read(&t, 1), 12);
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* Made and freed in one transaction: its image is not even logged. */
START_TEST(test_create_then_forget)
{
	struct jnl_stats st;
	struct jt t;

	jt_init(&t);
	jt_open(&t);
	jt_put(&t, 1, 11, true);
	forget(&t, 1);
	jt_put(&t, 2, 22, true);
	jt_commit(&t);
	jnl_get_stats(t.j, &st);
	ck_assert_uint_eq(st.blocks_logged, 1);
	write_data(&t, 1, 0xee);
	ck_assert_int_eq(jt_close(&t), 0);
	ck_assert(is_data(&t, 1, 0xee));
	jt_fini(&t);
}
END_TEST

/* More revokes than one REVOKE block holds. */
START_TEST(test_many_revokes)
{
	enum { NR = 700 };
	struct jt t;

	jt_init(&t);
	jt_open(&t);
	for (unsigned i = 0; i < NR; i++)
		jt_put(&t, i, i + 1, true);
	jt_commit(&t);
	for (unsigned i = 0; i < NR; i++)
		forget(&t, i);
	jt_commit(&t);
	for (unsigned i = 0; i < NR; i += 50)
		write_data(&t, i, 0xcc);
	jt_die(&t);
	jt_open(&t);
	for (unsigned i = 0; i < NR; i += 50)
		ck_assert(is_data(&t, i, 0xcc));
	ck_assert_int_eq(jt_close(&t), 0);
	jt_fini(&t);
}
END_TEST

/* ---- Threads and cuts ------------------------------------------------------------------------ */

enum { THREADS = 4, GROUP = 5, GROUPS = 3 * THREADS };

struct group {
	uint64_t stamp;      /* in memory, last stopped handle */
	uint64_t acked;      /* durable for sure */
	bool exists;
};

struct stress {
	struct jt t;
	struct group groups[GROUPS];
	uint64_t seed;
	unsigned rounds;
};

struct worker {
	struct stress *s;
	unsigned nr;
};

/* Give all blocks of the group one new stamp; false when the journal has stopped. */
static bool stamp_group(struct stress *s, unsigned g, uint64_t stamp, struct rng *rng)
{
	struct jnl_handle *h;
	jnl_tid_t tid;

	if (jnl_start(s->t.j, GROUP, 0, &h))
		return false;
	for (unsigned i = 0; i < GROUP; i++) {
		bool create = !s->groups[g].exists || rng_below(rng, 8) == 0;

		/* Free and make again within one transaction, as a tree does. */
		if (create && s->groups[g].exists)
			jnl_forget(h, jt_mblk(g * GROUP + i));
		if (create) {
			jt_create(&s->t, h, g * GROUP + i, stamp);
		} else {
			struct buf *b;

			if (buf_read(s->t.bc, jt_mblk(g * GROUP + i), JT_OWNER, &buf_ops_blob, 0, &b)) {
				jnl_abort(s->t.j, -EIO, "read after the cut");
				jnl_stop(h);
				return false;
			}
			jnl_get_write(h, b);
			jt_set(b, stamp);
			buf_put(b);
		}
	}
	tid = jnl_stop(h);
	s->groups[g].exists = true;
	s->groups[g].stamp = stamp;
	if (rng_below(rng, 10) == 0) {
		if (jnl_commit_wait(s->t.j, tid, NULL))
			return false;
		s->groups[g].acked = stamp;
	} else if (rng_below(rng, 60) == 0) {
		if (jnl_checkpoint(s->t.j))
			return false;
		s->groups[g].acked = stamp;
	}
	return true;
}

static void *stress_main(void *arg)
{
	struct worker *w = arg;
	struct rng rng;

	rng_seed(&rng, w->s->seed * 64 + w->nr);
	for (unsigned r = 1; r <= w->s->rounds; r++) {
		unsigned g = w->nr * (GROUPS / THREADS) + (unsigned)rng_below(&rng, GROUPS / THREADS);

		if (!stamp_group(w->s, g, w->s->groups[g].stamp + 1, &rng))
			break;
	}
	return NULL;
}

static void run_threads(struct stress *s)
{
	struct worker w[THREADS];
	pthread_t th[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ s, i };
		ck_assert_int_eq(pthread_create(&th[i], NULL, stress_main, &w[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
}

/* After recovery: groups whole, nothing acknowledged lost, nothing from the future. */
static void check_groups(struct stress *s, bool exact)
{
	for (unsigned g = 0; g < GROUPS; g++) {
		struct group *grp = &s->groups[g];
		uint64_t first;
		struct buf *b;
		int err = buf_read(s->t.bc, jt_mblk(g * GROUP), JT_OWNER, &buf_ops_blob, 0, &b);

		if (err) {
			/* Never reached the disk at all: then none was promised. */
			ck_assert_int_eq(err, -EFSCORRUPTED);
			ck_assert_uint_eq(grp->acked, 0);
			grp->exists = false;
			grp->stamp = 0;
			buf_invalidate(s->t.bc, jt_mblk(g * GROUP));
			continue;
		}
		first = jt_get(b);
		buf_put(b);
		ck_assert_uint_ge(first, grp->acked);
		ck_assert_uint_le(first, grp->stamp + 1);
		if (exact)
			ck_assert_uint_eq(first, grp->stamp);
		for (unsigned i = 1; i < GROUP; i++)
			ck_assert_uint_eq(jt_read(&s->t, g * GROUP + i), first);
		grp->stamp = grp->acked = first;
	}
}

START_TEST(test_stress)
{
	struct stress s = { .seed = unit_seed(1), .rounds = 4000 };
	struct jnl_stats st;

	jt_init(&s.t);
	s.t.params.commit_interval_ms = 3;
	jt_open(&s.t);
	run_threads(&s);
	jnl_get_stats(s.t.j, &st);
	ck_assert_uint_eq(st.handles, (uint64_t)s.rounds * THREADS);
	ck_assert(!jnl_aborted(s.t.j));
	ck_assert_int_eq(jt_close(&s.t), 0);
	jt_open(&s.t);
	check_groups(&s, true);
	ck_assert_int_eq(jt_close(&s.t), 0);
	jt_fini(&s.t);
}
END_TEST

/* J1, J2, J3, J7: the power goes at a random write, again and again on the same disk. */
START_TEST(test_random_cuts)
{
	struct stress s = { .seed = unit_seed(7), .rounds = 400 };
	struct bd *mem;
	struct rng rng;

	rng_seed(&rng, s.seed);
	jt_init(&s.t);
	mem = s.t.mem;
	for (unsigned round = 0; round < 120; round++) {
		uint64_t cut_at = 1 + rng_below(&rng, 150), cut_seed = rng_u64(&rng);

		s.seed = rng_u64(&rng) >> 8;
		s.t.params.commit_interval_ms = 1 + (unsigned)rng_below(&rng, 4);
		ck_assert_int_eq(bd_crash_create(mem, &s.t.dev), 0);
		bd_crash_arm(s.t.dev, cut_at, cut_seed);
		/* The cut may also hit the writes of replay or of the opening itself. */
		if (jt_try_open(&s.t) == 0) {
			run_threads(&s);
			jt_close(&s.t);
		}
		bd_crash_cut(s.t.dev, cut_seed);
		ck_assert_ptr_eq(bd_crash_detach(s.t.dev), mem);
		s.t.dev = mem;
		jt_open(&s.t);
		check_groups(&s, false);
		ck_assert_int_eq(jt_close(&s.t), 0);
	}
	jt_fini(&s.t);
}
END_TEST

/* Hundreds of aborts are the point here; what a test finds it says itself. */
static void quiet(enum log_level lvl, const char *line, void *arg)
{
}

int main(void)
{
	Suite *s = suite_create("journal-crash");
	TCase *tc = tcase_create("crash");

	log_set_sink(quiet, NULL);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, test_torn_tail);
	tcase_add_test(tc, test_chain_binds_record);
	tcase_add_test(tc, test_no_stale_successor);
	tcase_add_loop_test(tc, test_revoke_then_data, 0, 2);
	tcase_add_loop_test(tc, test_uncommitted_revoke, 0, 2);
	tcase_add_loop_test(tc, test_revoke_then_create, 0, 2);
	tcase_add_test(tc, test_create_then_forget);
	tcase_add_test(tc, test_revoke_waits_for_checkpoint);
	tcase_add_test(tc, test_many_revokes);
	tcase_add_test(tc, test_stress);
	tcase_add_test(tc, test_random_cuts);
	suite_add_tcase(s, tc);
	return unit_run(s);
}
