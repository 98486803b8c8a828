// SPDX-License-Identifier: MIT
/*
 * The daemon from start to end. The command forks before the first thread exists; the child
 * does everything and reports through a pipe, so that the parent returns only when the mount
 * serves, or says why it does not.
 */
#include <bsd/string.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse_log.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "iomapfs/dax.h"
#include "iomapfs/pmem.h"
#include "mount_private.h"
#include "sandbox.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

#define WORKERS_MAX 16u
#define RESERVED_WORKERS 2u

/* The last thing libfuse complained about, for the message of a failed mount. */
static char libfuse_said[256];

static void libfuse_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[256];

	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	if (level <= FUSE_LOG_WARNING)
		memcpy(libfuse_said, line, sizeof(line));
	log_msg(level <= FUSE_LOG_WARNING ? LOG_LVL_WARN : LOG_LVL_DEBUG, "%s", line);
}

static void syslog_sink(enum log_level lvl, const char *line, void *arg)
{
	static const int prio[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

	syslog(prio[lvl], "%s", line);
}

/* Until the mount serves, what goes wrong is the parent's to tell: nothing else is printed. */
static void quiet_sink(enum log_level lvl, const char *line, void *arg)
{
	if (lvl <= LOG_LVL_WARN)
		fprintf(stderr, "iomapfs: %s\n", line);
}

/* ---- Session --------------------------------------------------------------------------- */

/* fuse_opt splits at commas: escape them and the escape itself. */
static void append_escaped(char *list, size_t size, const char *text)
{
	size_t n = strlen(list);

	for (; *text && n + 3 < size; text++) {
		if (*text == ',' || *text == '\\')
			list[n++] = '\\';
		list[n++] = *text;
	}
	list[n] = '\0';
}

static void session_options(char *list, size_t size, const struct fz_source *s,
			    const struct fz_options *o)
{
	bool root = geteuid() == 0;
	enum fz_tristate dflt = root ? FZ_ON : FZ_OFF;

	snprintf(list, size, "subtype=iomapfs,default_permissions,fsname=");
	append_escaped(list, size - 128, s->dev);
	if (s->fuseblk)
		strlcat(list, ",blkdev,blksize=4096", size);
	if (root || o->allow_other)
		strlcat(list, ",allow_other", size);
	strlcat(list, o->fs.readonly ? ",ro" : ",rw", size);
	strlcat(list, (o->suid ? o->suid : dflt) == FZ_ON ? ",suid" : ",nosuid", size);
	strlcat(list, (o->dev ? o->dev : dflt) == FZ_ON ? ",dev" : ",nodev", size);
	if (o->exec == FZ_OFF)
		strlcat(list, ",noexec", size);
	if (o->fs.atime == FS_ATIME_NOATIME)
		strlcat(list, ",noatime", size);
	if (o->sync)
		strlcat(list, ",sync", size);
	if (o->dirsync)
		strlcat(list, ",dirsync", size);
}

static int session_mount(struct fz *fz, struct fz_source *s, const struct fz_mount_request *r,
			 struct fz_failure *f)
{
	char list[2 * PATH_MAX + 512];
	char *argv[] = {(char *)"iomapfs", (char *)"-o", list, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);

	session_options(list, sizeof(list), s, &r->opts);
	fz->se = fuse_session_new(&args, &fz_ll_ops, sizeof(fz_ll_ops), fz);
	fuse_opt_free_args(&args);
	if (!fz->se)
		return fz_fail(f, FZ_EX_SYSTEM, "cannot start a FUSE session: %s", libfuse_said);
	fz_source_release_claim(s);
	if (fuse_session_mount(fz->se, r->target) != 0) {
		fuse_session_destroy(fz->se);
		fz->se = NULL;
		return fz_fail(f, FZ_EX_FAIL, "%s: cannot mount: %s", r->target,
			       libfuse_said[0] ? libfuse_said : "see the messages above");
	}
	fz->dev_fd = fuse_session_fd(fz->se);
	/* From here on libfuse's replies leave through the seam. */
	if (fuse_session_custom_io(fz->se, &fz_seam_io, fz->dev_fd) != 0) {
		fuse_session_unmount(fz->se);
		fuse_session_destroy(fz->se);
		fz->se = NULL;
		return fz_fail(f, FZ_EX_SYSTEM, "this libfuse does not support custom I/O");
	}
	return 0;
}

/* ---- Parts -------------------------------------------------------------------------------- */

static int parts_create(struct fz *fz, struct fz_failure *f)
{
	const unsigned share = fz_transport_share(fs_options(fz->fs)->memory_bytes);
	int ret;

	pthread_mutex_init(&fz->stats_lock, NULL);
	ret = fz_nodes_create(&fz->nodes);
	if (ret == 0)
		ret = work_pool_create("fz-work", MIN(share, WORKERS_MAX), &fz->workers);
	if (ret == 0)
		ret = work_pool_create("fz-keep", RESERVED_WORKERS, &fz->reserved);
	if (ret == 0)
		ret = fz_notifier_create(fz, &fz->notifier);
	if (ret < 0)
		return fz_fail(f, FZ_EX_SYSTEM, "cannot start threads: %s", strerror(-ret));
	return 0;
}

static void parts_destroy(struct fz *fz)
{
	fz_notifier_destroy(fz->notifier);
	if (fz->workers)
		work_pool_destroy(fz->workers);
	if (fz->reserved)
		work_pool_destroy(fz->reserved);
	fz_nodes_destroy(fz->nodes);
	fz_buf_drop_spares();
	fz_stats_free(fz);
	pthread_mutex_destroy(&fz->stats_lock);
}

void fz_close_fs(struct fz *fz)
{
	struct timespec tick = {.tv_nsec = 1000000};
	const unsigned own = fz_rx.hdr ? 1 : 0; /* DESTROY itself */

	if (atomic_load(&fz->unmounted))
		return;
	/*
	 * The kernel sends DESTROY when it has an answer to everything but FORGET, which stays out from
	 * now on (fz_seam_dispatch); what a cut connection leaves behind on workers ends by itself.
	 */
	atomic_store(&fz->unmounted, true);
	while (atomic_load(&fz->inflight) > own)
		nanosleep(&tick, NULL);
	fz_nodes_release_all(fz->nodes);
	fz->unmount_error = fs_unmount(fz->fs);
	if (fz->unmount_error)
		log_err("unmount: %s", strerror(-fz->unmount_error));
}

/* ---- Signals ---------------------------------------------------------------------------------- */

struct signal_thread {
	pthread_t thread;
	struct fz_detacher *detacher;
	const char *target;
};

static void end_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1); /* from ourselves: time to leave */
}

/* SIGTERM, SIGINT, SIGHUP: detach the mount; serving ends when its last user has left. */
static void *signal_main(void *arg)
{
	struct signal_thread *t = arg;
	sigset_t set;
	int sig;

	end_signals(&set);
	while (sigwait(&set, &sig) == 0 && sig != SIGUSR1) {
		log_info("signal %d: unmounting %s", sig, t->target);
		if (fz_detacher_ask(t->detacher) < 0)
			log_err("%s: cannot detach: unmount it with umount(8)", t->target);
	}
	return NULL;
}

/* ---- Serving -------------------------------------------------------------------------------------- */

static void favour_ourselves(void)
{
	FILE *adj;

	/* The kernel's writeback waits for us: do not make us wait for it, nor shoot us first. */
	prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	if (geteuid() == 0 && (adj = fopen("/proc/self/oom_score_adj", "we"))) {
		fputs("-1000", adj);
		fclose(adj);
	}
}

/* Give up what serving does not need. Nothing is opened and no thread begins after this. */
static int confine(const struct fz_mount_request *r, struct fz_failure *f)
{
	const enum fz_sandbox mode = r->opts.sandbox;
	const char *what;
	int ret;

	if (mode == FZ_SANDBOX_OFF)
		return 0;
	ret = fz_sandbox_enter(mode, &what);
	if (ret < 0 && mode != FZ_SANDBOX_DEFAULT)
		return fz_fail(f, FZ_EX_SYSTEM, "%s: sandbox: %s: %s; -o nosandbox goes without",
			       r->target, what, strerror(-ret));
	if (ret < 0)
		log_warn("%s: sandbox: %s: %s: serving without", r->target, what, strerror(-ret));
	return 0;
}

/* The terminal is the mount command's: from here on we speak in the system's log. */
static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	openlog("iomapfs", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	log_set_sink(syslog_sink, NULL);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	if (null >= 0)
		close(null);
}

static void tell_parent(int status_fd)
{
	struct fz_failure ok = {.code = FZ_EX_OK};

	if (write(status_fd, &ok, sizeof(ok)) < 0)
		log_warn("the mount command has gone: %s", strerror(errno));
	close(status_fd);
}

static int serve(struct fz *fz, const struct fz_mount_request *r, struct fz_detacher *detacher,
		 int status_fd, struct fz_failure *f)
{
	struct signal_thread st = {.detacher = detacher, .target = r->target};
	const char *why;
	int ret;

	ret = fz_transport_start(fz, &why);
	if (ret < 0)
		return fz_fail(f, FZ_EX_SYSTEM, "%s: cannot serve the mount: %s: %s", r->target, why,
			       strerror(-ret));
	ret = pthread_create(&st.thread, NULL, signal_main, &st);
	if (ret)
		log_warn("no thread for signals: unmount with umount(8)");
	if (status_fd >= 0)
		leave_terminal();
	if (fz->fallback)
		log_warn("%s: transport=auto took loop: %s", r->target, fz->fallback);
	if (confine(r, f) < 0)
		fz_detacher_ask(detacher);
	else if (status_fd >= 0)
		tell_parent(status_fd);
	fz_transport_join(fz);
	if (ret == 0) {
		pthread_kill(st.thread, SIGUSR1);
		pthread_join(st.thread, NULL);
	}
	return 0;
}

static int mount_fs(struct fz *fz, struct fz_source *s, const struct fz_mount_request *r,
		    struct fz_failure *f)
{
	struct fs_error err = {""};
	int ret;

	if (r->opts.fs.dax) {
		/* Both before there is a thread or a filter. Without libpmem2 memory is flushed by page. */
		(void)bd_pmem_enable();
		ret = dax_catch_sigbus();
		if (ret < 0)
			return fz_fail(f, FZ_EX_SYSTEM, "%s: SIGBUS: %s", r->source, strerror(-ret));
	}
	ret = fs_mount(s->bd, &r->opts.fs, &fz->fs, &err);

	if (ret < 0)
		return fz_fail(f, FZ_EX_FAIL, "%s: %.500s", r->source,
			       err.text[0] ? err.text : strerror(-ret));
	s->bd = NULL;
	return 0;
}

/*
 * Where serving ended in an error the mount is still there, and only the detacher may take it down.
 * Our end goes first: nobody is left to answer the DESTROY that it waits for.
 */
static void session_end(struct fz *fz, struct fz_detacher *detacher)
{
	struct pollfd dev = {.fd = fz->dev_fd};
	bool gone = poll(&dev, 1, 0) == 1 && (dev.revents & POLLERR);

	/* What never served has given up no rights yet; of what is gone this only frees. */
	if (gone || !fz->loop)
		fuse_session_unmount(fz->se);
	fuse_session_destroy(fz->se);
	if (!gone && fz->loop)
		fz_detacher_ask(detacher);
}

/* Everything, in the process that stays; *f is filled in on failure. */
static int run_mount(const struct fz_mount_request *r, struct fz_detacher *detacher, int status_fd,
		     struct fz_failure *f)
{
	struct fz fz = {.dev_fd = -1, .opts = &r->opts, .cache = r->opts.cache, .owner = geteuid()};
	struct fz_source src;
	const char *why;

	if (fz_transport_prepare(&fz, &why) < 0) {
		fz_fail(f, FZ_EX_SYSTEM, "%s: transport=uring: %s; transport=auto goes without",
			r->target, why);
		return f->code;
	}
	if (fz_target_clear_dead(r->target, f) < 0 ||
	    fz_source_open(&src, r->source, &r->opts, f) < 0)
		return f->code;
	if (mount_fs(&fz, &src, r, f) < 0) {
		fz_source_close(&src);
		return f->code;
	}
	fz_source_attach_loop(&src, fs_bd(fz.fs)->info.readonly);
	fz_buf_setup(fs_options(fz.fs)->memory_bytes);
	if (parts_create(&fz, f) == 0 && session_mount(&fz, &src, r, f) == 0) {
		favour_ourselves();
		fz_source_close(&src);
		serve(&fz, r, detacher, status_fd, f);
	}
	fz_source_close(&src);
	fz_close_fs(&fz);
	fz_transport_destroy(&fz);
	parts_destroy(&fz);
	if (fz.se)
		session_end(&fz, detacher);
	if (f->code == 0 && fz.unmount_error)
		fz_fail(f, FZ_EX_FAIL, "%s: unmount: %s", r->target, strerror(-fz.unmount_error));
	return f->code;
}

/* As above, with what it needs around it. Returns the exit code. */
static int run(const struct fz_mount_request *r, int status_fd, struct fz_failure *f)
{
	struct fz_detacher detacher;
	sigset_t set;
	int ret;

	end_signals(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	ret = fz_detacher_start(&detacher, r->target, status_fd >= 0);
	if (ret < 0) {
		fz_fail(f, FZ_EX_SYSTEM, "cannot start a process: %s", strerror(-ret));
		return f->code;
	}
	fuse_set_log_func(libfuse_log);
	run_mount(r, &detacher, status_fd, f);
	fz_detacher_end(&detacher);
	return f->code;
}

/* ---- The command's side ------------------------------------------------------------------------------ */

static int tell(const struct fz_failure *f)
{
	if (f->code)
		fprintf(stderr, "iomapfs: %s\n", f->text);
	return f->code;
}

static int check_dev_fuse(struct fz_failure *f)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (errno == EACCES || errno == EPERM)
		return fz_fail(f, FZ_EX_SYSTEM,
			       "/dev/fuse: %s; ask root to run: chmod 0666 /dev/fuse", strerror(errno));
	return fz_fail(f, FZ_EX_SYSTEM, "/dev/fuse: %s; as root: modprobe fuse", strerror(errno));
}

/* Wait for the child's word; a child that died without one left no mount that serves. */
static int wait_for_child(pid_t pid, int fd, const char *target)
{
	struct fz_failure f;
	struct fz_mount_entry e;
	ssize_t n;
	int status;

	do
		n = read(fd, &f, sizeof(f));
	while (n < 0 && errno == EINTR);
	if (n == sizeof(f))
		return tell(&f);
	waitpid(pid, &status, 0);
	if (fz_mount_find(target, &e) && fz_mount_is_ours(&e)) {
		struct fz_failure ignored;

		fz_target_clear_dead(target, &ignored);
	}
	fz_fail(&f, FZ_EX_SYSTEM, "the daemon ended unexpectedly (status 0x%x)", (unsigned)status);
	return tell(&f);
}

int fz_daemon_start(const struct fz_mount_request *r)
{
	struct fz_failure f = {0};
	int pipefd[2];
	pid_t pid;

	if (check_dev_fuse(&f) < 0)
		return tell(&f);
	if (r->opts.foreground) {
		run(r, -1, &f);
		return tell(&f);
	}
	if (pipe2(pipefd, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		fz_fail(&f, FZ_EX_SYSTEM, "%s", strerror(errno));
		return tell(&f);
	}
	if (pid > 0) {
		close(pipefd[1]);
		return wait_for_child(pid, pipefd[0], r->target);
	}
	close(pipefd[0]);
	setsid();
	if (chdir("/") < 0)
		log_debug("chdir: %s", strerror(errno));
	log_set_sink(quiet_sink, NULL);
	run(r, pipefd[1], &f);
	/* After success the pipe is closed, and this goes nowhere. */
	if (f.code && write(pipefd[1], &f, sizeof(f)) < 0)
		log_err("%s", f.text);
	return f.code;
}
