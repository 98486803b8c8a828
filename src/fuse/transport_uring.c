// SPDX-License-Identifier: MIT
/*
 * Transport "uring": the kernel puts requests into memory of ours and takes the replies from there, by
 * commands on a ring. It keeps one queue a possible CPU and sends a request to the queue of the CPU that its
 * caller runs on. We keep one ring and one pinned thread for each CPU that we may use; a queue whose CPU is
 * none of these has its place on another's ring.
 *
 * A slot holds one request. It belongs to, in turn:
 *
 *	the kernel          REGISTER, or COMMIT_AND_FETCH with the last reply: fill it
 *	the queue's thread  the completion: a request is in it; served at once where that needs no waiting
 *	whoever has the     a worker, the device's reaper. Its reply is written into the slot, which returns
 *	parked call         to the thread by `answered`: only this may submit, because the kernel brings the
 *	                    next request into the slot by the hand of whoever did
 *
 * The kernel never waits for a free slot alone: what fills all slots of a queue may be calls that wait for
 * the kernel to write back a page, by a request to the same queue. So each queue always has one slot with the
 * kernel: when the last is parked another one is made.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fuse_private.h"

#define MAX_SERVERS   64u
#define MAX_QUEUES    4096u
#define DEFAULT_DEPTH 4u
#define RING_ENTRIES  256u

/* Files of each ring. */
enum { FILE_FUSE, FILE_WAKE, NR_FILES };

struct fz_slot {
	struct queue *queue;
	struct fz_slot *next_answered;
	struct fz_slot *next;        /* of the queue; written before the slot is first used */
	struct fz_uring_header header;
	char *payload;               /* FZ_MAX_WRITE bytes; the page before it is ours too */
	struct iovec iov[2];         /* the two above, as the kernel wants them */
	uint64_t unique;             /* of the request in it */
	uint32_t request_bytes;      /* of its payload */
	_Atomic bool busy;           /* a request is in it, and no reply yet */
};

struct queue {
	struct server *server;
	uint16_t qid;
	unsigned nr_waiting;         /* slots with the kernel; only the server's thread counts */
	struct fz_slot *slots;
};

struct server {
	struct fz_uring *uring;
	pthread_t thread;
	int cpu;
	struct io_uring ring;
	int wake_fd;
	uint64_t woken;              /* what is read from wake_fd */
	_Atomic(struct fz_slot *) answered;
	_Atomic bool asleep;         /* waits, or is about to: wake it by wake_fd */
};

/* Where the threads are, all together; each waits until the next word is said. */
enum phase { PHASE_CREATED, PHASE_REGISTER, PHASE_SERVE, PHASE_STOP };

struct fz_uring {
	struct fz *fz;
	unsigned nr_servers, nr_queues, depth;
	struct queue *queues;        /* by qid */
	pthread_mutex_t lock;
	pthread_cond_t cond;
	_Atomic enum phase phase;    /* changes under lock */
	unsigned nr_arrived;         /* threads that did what the phase asks; under lock */
	int error;                   /* the first of theirs; under lock */
	struct server servers[MAX_SERVERS];
};

static __thread struct server *self;

/* ---- Slots -------------------------------------------------------------------------------- */

static struct fz_slot *slot_new(struct queue *q)
{
	struct fz_slot *slot = calloc(1, sizeof(*slot));

	if (!slot)
		return NULL;
	slot->payload = fz_pages_get(FZ_MAX_WRITE);
	if (!slot->payload) {
		free(slot);
		return NULL;
	}
	slot->queue = q;
	slot->iov[0] = (struct iovec){&slot->header, sizeof(slot->header)};
	slot->iov[1] = (struct iovec){slot->payload, FZ_MAX_WRITE};
	slot->next = q->slots;
	q->slots = slot;
	return slot;
}

static struct io_uring_sqe *get_sqe(struct server *s)
{
	struct io_uring_sqe *sqe;

	while (!(sqe = io_uring_get_sqe(&s->ring)))
		io_uring_submit(&s->ring);
	return sqe;
}

static void queue_command(struct fz_slot *slot, uint32_t op)
{
	const bool commit = op == FZ_URING_COMMIT_AND_FETCH;
	const struct fz_uring_cmd cmd = {
		.commit_id = commit ? slot->header.commit_id : 0,
		.qid = slot->queue->qid,
	};
	struct io_uring_sqe *sqe = get_sqe(slot->queue->server);

	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->fd = FILE_FUSE;
	sqe->cmd_op = op;
	if (!commit) {
		sqe->addr = (uint64_t)(uintptr_t)slot->iov;
		sqe->len = ARRAY_SIZE(slot->iov);
	}
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	io_uring_sqe_set_data(sqe, slot);
	slot->queue->nr_waiting++;
}

/* One slot more for the queue. */
static int slot_register(struct queue *q)
{
	struct fz_slot *slot = slot_new(q);

	if (!slot)
		return -ENOMEM;
	queue_command(slot, FZ_URING_REGISTER);
	return 0;
}

void *fz_uring_room(struct fz_slot *slot)
{
	return slot && slot->request_bytes == 0 ? slot->payload : NULL;
}

static void wake(struct server *s)
{
	const uint64_t one = 1;

	if (write(s->wake_fd, &one, sizeof(one)) < 0)
		log_err("waking a queue: %s", strerror(errno));
}

/*
 *	replier                             queue's thread
 *	                                    asleep = true
 *	answered = slot                     answered is empty? (no: go on, do not sleep)
 *	asleep was true? wake               io_uring_enter
 *
 * Both orders are sequentially consistent, so one of them sees the other.
 */
static void hand_back(struct fz_slot *slot)
{
	struct server *s = slot->queue->server;

	slot->next_answered = atomic_load(&s->answered);
	while (!atomic_compare_exchange_weak(&s->answered, &slot->next_answered, slot))
		;
	if (atomic_load(&s->asleep) && atomic_exchange(&s->asleep, false))
		wake(s);
}

void fz_uring_reply(struct fz_slot *slot, const struct iovec *iov, int nr)
{
	struct fuse_out_header *out = (void *)slot->header.in_out;
	uint32_t bytes = 0;

	memcpy(out, iov[0].iov_base, sizeof(*out));
	assert(nr > 0 && iov[0].iov_len == sizeof(*out));
	assert(atomic_load(&slot->busy) && out->unique == slot->unique);
	for (int i = 1; i < nr; i++) {
		assert(iov[i].iov_len <= FZ_MAX_WRITE - bytes);
		if (iov[i].iov_base != slot->payload + bytes)
			memmove(slot->payload + bytes, iov[i].iov_base, iov[i].iov_len);
		bytes += (uint32_t)iov[i].iov_len;
	}
	slot->header.payload_bytes = bytes;
	atomic_store(&slot->busy, false);
	if (self == slot->queue->server)
		queue_command(slot, FZ_URING_COMMIT_AND_FETCH);
	else
		hand_back(slot);
}

/* ---- Requests ------------------------------------------------------------------------------- */

static void refuse(struct fz_slot *slot, int error)
{
	const struct fuse_out_header out = {.len = sizeof(out), .error = error, .unique = slot->unique};
	const struct iovec iov = {(void *)(uintptr_t)&out, sizeof(out)};

	fz_uring_reply(slot, &iov, 1);
}

/* As the descriptor would have given it: the payload stays, the little before it goes there. */
static void *assemble(struct fz_slot *slot)
{
	const struct fuse_in_header *in = (const void *)slot->header.in_out;
	const uint32_t payload = slot->header.payload_bytes;
	uint32_t op_bytes;
	char *msg;

	if (payload > FZ_MAX_WRITE || in->len < sizeof(*in) + payload)
		return NULL;
	op_bytes = in->len - (uint32_t)sizeof(*in) - payload;
	if (op_bytes > sizeof(slot->header.op))
		return NULL;
	msg = slot->payload - op_bytes - sizeof(*in);
	memcpy(msg, in, sizeof(*in));
	memcpy(msg + sizeof(*in), slot->header.op, op_bytes);
	return msg;
}

static void serve_slot(struct server *s, struct fz_slot *slot)
{
	const struct fuse_in_header *in = (const void *)slot->header.in_out;
	const uint32_t opcode = in->opcode, len = in->len;
	void *msg = assemble(slot);

	slot->unique = in->unique;
	slot->request_bytes = slot->header.payload_bytes;
	atomic_store(&slot->busy, true);
	if (!msg) {
		log_err("the kernel sent a message of opcode %u and %u bytes that is none", opcode, len);
		refuse(slot, -EIO);
		return;
	}
	fz_seam_dispatch(s->uring->fz, s->uring->fz->dev_fd, slot, msg, len);
	/* Such come by the descriptor; should one come here, its slot is to be had again. */
	if (!fz_proto_has_reply(opcode))
		refuse(slot, 0);
}

static void slot_lost(struct server *s, const struct fz_slot *slot, int error)
{
	/* These are the end of the mount. */
	if (error != -ENOTCONN && error != -ECONNABORTED && error != -ECANCELED && error != -ENODEV)
		log_err("queue %u of the kernel gave up a slot: %s", slot->queue->qid, strerror(-error));
}

static void arm_wake(struct server *s)
{
	struct io_uring_sqe *sqe = get_sqe(s);

	memset(sqe, 0, 2 * sizeof(*sqe));
	io_uring_prep_read(sqe, FILE_WAKE, &s->woken, sizeof(s->woken), 0);
	sqe->flags = IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, NULL);
}

static void commit_answered(struct server *s)
{
	struct fz_slot *slot = atomic_exchange(&s->answered, NULL), *next;

	for (; slot; slot = next) {
		next = slot->next_answered;
		queue_command(slot, FZ_URING_COMMIT_AND_FETCH);
	}
}

static void on_completion(struct server *s, struct fz_slot *slot, int res)
{
	struct queue *q;

	if (!slot) {
		arm_wake(s);
		return;
	}
	q = slot->queue;
	q->nr_waiting--;
	if (res < 0) {
		slot_lost(s, slot, res);
		return;
	}
	serve_slot(s, slot);
	if (q->nr_waiting == 0 && slot_register(q) < 0)
		log_err("out of memory for one more request: queue %u waits for its workers", q->qid);
}

static bool stopped(struct server *s)
{
	return atomic_load(&s->uring->phase) == PHASE_STOP;
}

static void serve(struct server *s)
{
	struct io_uring_cqe *cqe;

	while (!stopped(s)) {
		struct fz_slot *slot;
		unsigned wait = 1;
		int res;

		atomic_store(&s->asleep, true);
		if (atomic_load(&s->answered) || stopped(s)) {
			atomic_store(&s->asleep, false);
			commit_answered(s);
			wait = 0;
		}
		res = io_uring_submit_and_wait(&s->ring, wait);
		atomic_store(&s->asleep, false);
		if (res < 0 && res != -EINTR && res != -EAGAIN && res != -EBUSY) {
			/* Requests on their way would never be answered; dying they are. */
			log_err("io_uring_enter: %s", strerror(-res));
			abort();
		}
		while (io_uring_peek_cqe(&s->ring, &cqe) == 0) {
			slot = io_uring_cqe_get_data(cqe);
			res = cqe->res;
			io_uring_cqe_seen(&s->ring, cqe);
			on_completion(s, slot, res);
		}
	}
}

/* ---- Threads ---------------------------------------------------------------------------------- */

/* This thread has done what the phase asked, with ret; returns the next phase. */
static enum phase arrive(struct server *s, enum phase done, int ret)
{
	struct fz_uring *u = s->uring;
	enum phase now;

	pthread_mutex_lock(&u->lock);
	u->nr_arrived++;
	if (ret < 0 && u->error == 0)
		u->error = ret;
	pthread_cond_broadcast(&u->cond);
	while ((now = atomic_load(&u->phase)) == done)
		pthread_cond_wait(&u->cond, &u->lock);
	pthread_mutex_unlock(&u->lock);
	return now;
}

static void set_phase(struct fz_uring *u, enum phase phase)
{
	pthread_mutex_lock(&u->lock);
	atomic_store(&u->phase, phase);
	u->nr_arrived = 0;
	pthread_cond_broadcast(&u->cond);
	pthread_mutex_unlock(&u->lock);
}

/* Until all threads have; the first of their errors. */
static int await_arrivals(struct fz_uring *u)
{
	int ret;

	pthread_mutex_lock(&u->lock);
	while (u->nr_arrived < u->nr_servers)
		pthread_cond_wait(&u->cond, &u->lock);
	ret = u->error;
	pthread_mutex_unlock(&u->lock);
	return ret;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0)
		log_debug("cannot pin to CPU %d; running unpinned", cpu);
}

/*
 * The first slot of each queue of this thread. The kernel begins to use the rings when every queue has one;
 * a refusal before that sends all requests to the descriptor again.
 */
static int register_first(struct server *s)
{
	struct fz_uring *u = s->uring;
	struct io_uring_cqe *cqe;
	unsigned head;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < u->nr_queues; i++)
		if (u->queues[i].server == s)
			ret = slot_register(&u->queues[i]);
	while (io_uring_sq_ready(&s->ring) > 0) {
		const int n = io_uring_submit(&s->ring);

		if (n < 0 && n != -EINTR && n != -EAGAIN && n != -EBUSY)
			return n;
	}
	/* Only looked at: what is no refusal is served when all is well. */
	io_uring_for_each_cqe(&s->ring, head, cqe)
		if (cqe->res < 0 && ret == 0)
			ret = cqe->res;
	return ret;
}

static void register_rest(struct server *s)
{
	struct fz_uring *u = s->uring;

	for (unsigned i = 0; i < u->nr_queues; i++)
		for (unsigned n = 1; u->queues[i].server == s && n < u->depth; n++)
			if (slot_register(&u->queues[i]) < 0)
				return;
}

static void *server_main(void *arg)
{
	struct server *s = arg;
	enum phase phase;
	int ret;

	self = s;
	pin(s->cpu);
	/* Whoever enables a ring is the one who may submit. */
	ret = io_uring_register((unsigned)s->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (ret == 0)
		arm_wake(s);
	phase = arrive(s, PHASE_CREATED, ret);
	if (phase == PHASE_REGISTER)
		phase = arrive(s, phase, register_first(s));
	if (phase == PHASE_SERVE) {
		register_rest(s);
		serve(s);
	}
	io_uring_queue_exit(&s->ring);
	return NULL;
}

/* ---- Set-up ------------------------------------------------------------------------------------ */

/* A ring may do this and nothing else, whatever strangers sent: the sandbox's filter sees none of it. */
static int restrict_ring(struct io_uring *ring)
{
	struct io_uring_restriction res[] = {
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
		{.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_URING_CMD},
		{.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ},
	};

	return io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, res, ARRAY_SIZE(res));
}

static int server_create(struct fz_uring *u, struct server *s, int cpu)
{
	int files[NR_FILES] = {[FILE_FUSE] = u->fz->dev_fd};
	int ret;

	s->uring = u;
	s->cpu = cpu;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake_fd < 0)
		return -errno;
	files[FILE_WAKE] = s->wake_fd;
	ret = io_uring_queue_init(RING_ENTRIES, &s->ring,
				  IORING_SETUP_SQE128 | IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
					  IORING_SETUP_DEFER_TASKRUN);
	if (ret < 0)
		goto out_close;
	ret = io_uring_register_files(&s->ring, files, NR_FILES);
	if (ret == 0)
		ret = restrict_ring(&s->ring);
	if (ret == 0)
		ret = -pthread_create(&s->thread, NULL, server_main, s);
	if (ret < 0)
		goto out_ring;
	pthread_setname_np(s->thread, "fz-uring");
	u->nr_servers++;
	return 0;

out_ring:
	io_uring_queue_exit(&s->ring);
out_close:
	close(s->wake_fd);
	return ret;
}

/* A thread for each CPU we may use, as many as memory= has scratch for. */
static int servers_create(struct fz_uring *u)
{
	const unsigned share = fz_transport_share(fs_options(u->fz->fs)->memory_bytes);
	const unsigned max = MIN(MAX_SERVERS, MAX(2, share / 2));
	cpu_set_t set;
	int ret = 0;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		CPU_SET(0, &set);
	for (int cpu = 0; ret == 0 && cpu < CPU_SETSIZE && u->nr_servers < max; cpu++)
		if (CPU_ISSET(cpu, &set))
			ret = server_create(u, &u->servers[u->nr_servers], cpu);
	return ret;
}

/*
 * How many queues the kernel has: one a possible CPU. Too few would make it wait for the rest for ever, too
 * many it refuses.
 */
static unsigned nr_possible_cpus(void)
{
	FILE *f = fopen("/sys/devices/system/cpu/possible", "re");
	unsigned from, to, total = 0;
	int c = ',';

	while (f && c == ',' && fscanf(f, "%u", &from) == 1) {
		to = from;
		c = getc(f);
		if (c == '-' && fscanf(f, "%u", &to) == 1)
			c = getc(f);
		total += to >= from ? to - from + 1 : 0;
	}
	if (f)
		fclose(f);
	return total;
}

/* Each to the thread on its own CPU; whose CPU is none of ours gets what there is. */
static int queues_create(struct fz_uring *u)
{
	const unsigned share = fz_transport_share(fs_options(u->fz->fs)->memory_bytes);

	u->nr_queues = nr_possible_cpus();
	if (u->nr_queues == 0 || u->nr_queues > MAX_QUEUES)
		return -EOPNOTSUPP;
	u->queues = calloc(u->nr_queues, sizeof(*u->queues));
	if (!u->queues)
		return -ENOMEM;
	for (unsigned i = 0; i < u->nr_queues; i++) {
		struct queue *q = &u->queues[i];

		q->qid = (uint16_t)i;
		q->server = &u->servers[i % u->nr_servers];
		for (unsigned n = 0; n < u->nr_servers; n++)
			if (u->servers[n].cpu == (int)i)
				q->server = &u->servers[n];
	}
	u->depth = u->fz->opts->queue_depth;
	if (!u->depth)
		u->depth = MAX(1, MIN(DEFAULT_DEPTH, share / 2 / u->nr_queues));
	return 0;
}

int fz_uring_probe(void)
{
	FILE *f = fopen("/sys/module/fuse/parameters/enable_uring", "re");
	int c = f ? getc(f) : EOF;

	if (f)
		fclose(f);
	if (c == EOF)
		return -EOPNOTSUPP;
	return c == 'Y' || c == '1' ? 0 : -EPERM;
}

int fz_uring_create(struct fz *fz, struct fz_uring **out)
{
	struct fz_uring *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return -ENOMEM;
	u->fz = fz;
	pthread_mutex_init(&u->lock, NULL);
	pthread_cond_init(&u->cond, NULL);
	ret = servers_create(u);
	if (ret == 0)
		ret = queues_create(u);
	if (ret == 0)
		ret = await_arrivals(u);
	if (ret < 0) {
		fz_uring_stop(u);
		fz_uring_destroy(u);
		return ret;
	}
	*out = u;
	return 0;
}

int fz_uring_start(struct fz_uring *u)
{
	int ret;

	set_phase(u, PHASE_REGISTER);
	ret = await_arrivals(u);
	if (ret < 0)
		fz_uring_stop(u);
	else
		set_phase(u, PHASE_SERVE);
	return ret;
}

void fz_uring_stop(struct fz_uring *u)
{
	set_phase(u, PHASE_STOP);
	for (unsigned i = 0; i < u->nr_servers; i++)
		wake(&u->servers[i]);
	for (unsigned i = 0; i < u->nr_servers; i++)
		pthread_join(u->servers[i].thread, NULL);
}

void fz_uring_destroy(struct fz_uring *u)
{
	for (unsigned i = 0; i < u->nr_queues && u->queues; i++) {
		struct fz_slot *slot = u->queues[i].slots, *next;

		for (; slot; slot = next) {
			next = slot->next;
			fz_pages_put(slot->payload);
			free(slot);
		}
	}
	for (unsigned i = 0; i < u->nr_servers; i++)
		close(u->servers[i].wake_fd);
	free(u->queues);
	pthread_cond_destroy(&u->cond);
	pthread_mutex_destroy(&u->lock);
	free(u);
}
