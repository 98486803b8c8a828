// SPDX-License-Identifier: MIT
/* iomapctl on devices and images that are not mounted (or about to be no more). */
#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include "ctl.h"
#include "ident.h"

/* Labels reach udev rules and links under /dev/disk: encoded as libblkid encodes them. */
static void print_udev(const struct sb_info *sb, const char *uuid)
{
	char enc[512] = "", safe[512] = "";

	blkid_encode_string(sb->label, enc, sizeof(enc));
	blkid_safe_string(sb->label, safe, sizeof(safe));
	printf("ID_FS_TYPE=iomapfs\nID_FS_USAGE=filesystem\nID_FS_VERSION=%u\n", sb->version);
	printf("ID_FS_UUID=%s\nID_FS_UUID_ENC=%s\n", uuid, uuid);
	if (sb->label[0])
		printf("ID_FS_LABEL=%s\nID_FS_LABEL_ENC=%s\n", safe, enc);
}

int ctl_probe(const struct ctl_opts *o, const char *path)
{
	const char *why = NULL;
	struct sb_info sb;
	char uuid[37];
	int ret;

	ret = ident_iomapfs(path, &sb, &why);
	if (ret < 0)
		return ctl_fail(path, -ret);
	if (ret != IDENT_SOUND) {
		if (!o->udev)
			fprintf(stderr, "iomapctl: %s: %s%s\n", path,
				ret == IDENT_DAMAGED ? "a damaged iomapfs: " : "no iomapfs",
				ret == IDENT_DAMAGED ? why : "");
		return CTL_FAIL;
	}
	uuid_unparse_lower(sb.uuid, uuid);
	if (o->udev)
		print_udev(&sb, uuid);
	else if (o->json)
		return ctl_print_json(json_pack("{s:s,s:s,s:s,s:i,s:i,s:I}", "type", "iomapfs", "uuid",
						uuid, "label", sb.label, "version", (int)sb.version,
						"block_size", 1 << sb.block_shift, "blocks",
						(json_int_t)sb.nr_blocks));
	else
		printf("%s: UUID=\"%s\" LABEL=\"%s\" TYPE=\"iomapfs\"\n", path, uuid, sb.label);
	return CTL_OK;
}

/* The daemon's lock on an image; its or the kernel's claim on a block device. */
static int is_held(const char *path)
{
	struct flock lk = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret;
	struct stat st;

	if (fd < 0)
		return -errno;
	ret = fstat(fd, &st) < 0 || fcntl(fd, F_OFD_GETLK, &lk) < 0 ? -errno : lk.l_type != F_UNLCK;
	close(fd);
	if (ret != 0 || !S_ISBLK(st.st_mode))
		return ret;
	fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd < 0)
		return errno == EBUSY ? 1 : -errno;
	close(fd);
	return 0;
}

int ctl_wait(const struct ctl_opts *o, const char *path)
{
	const struct timespec tick = {.tv_nsec = 10 * 1000 * 1000};
	int held;

	for (uint64_t ms = 0; (held = is_held(path)) > 0; ms += 10) {
		if (o->timeout_s && ms >= o->timeout_s * 1000ull) {
			fprintf(stderr, "iomapctl: %s: still in use after %u s\n", path, o->timeout_s);
			return CTL_FAIL;
		}
		nanosleep(&tick, NULL);
	}
	if (held < 0)
		return ctl_fail(path, -held);
	return o->json ? ctl_print_json(json_pack("{s:s,s:b}", "source", path, "held", 0)) : CTL_OK;
}
