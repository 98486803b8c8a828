/* SPDX-License-Identifier: MIT */
/* The table of problems, and the raising of them. */
#include <stdarg.h>

#include "chk.h"

/* Of one kind only so many are printed; all are counted. */
#define PRINT_MAX 50u

enum severity {
	CHK_ERROR,
	CHK_NOTE, /* worth knowing, not wrong */
};

struct problem {
	struct chk_problem_info info;
	enum severity severity;
};

#define ROW(name, pass, severity, text) [CHK_P_##name] = { { #name, pass, text }, CHK_##severity },
static const struct problem table[] = { CHK_PROBLEMS(ROW) };
#undef ROW

/* Codes are written with dashes: INODE-BAD. */
static void code_text(enum chk_code code, char *buf, size_t size)
{
	size_t i;

	for (i = 0; i + 1 < size && table[code].info.code[i]; i++)
		buf[i] = table[code].info.code[i] == '_' ? '-' : table[code].info.code[i];
	buf[i] = '\0';
}

const struct chk_problem_info *chk_problem_get(unsigned i)
{
	return i < CHK_P_NR ? &table[i].info : NULL;
}

bool chk_is_error(enum chk_code code)
{
	return table[code].severity == CHK_ERROR;
}

bool chk_preen_ok(enum chk_code code)
{
	static const enum chk_code safe[] = {
		CHK_P_SB_PRIMARY,      CHK_P_SB_COPY,         CHK_P_SB_COPY_DIFFERS,
		CHK_P_MMP_BLOCK,       CHK_P_AG_HEAD_SPARE,   CHK_P_AG_FREE_BLOCKS,
		CHK_P_AG_FREE_SLOTS,   CHK_P_AG_INODES,       CHK_P_AG_FREE_INODES,
		CHK_P_FREE_LEN_UNKNOWN, CHK_P_FREE_LEN_MISSING, CHK_P_INOFREE_UNKNOWN,
		CHK_P_INOFREE_MISSING, CHK_P_EXTENT_COUNT,    CHK_P_INODE_BLOCKS,
		CHK_P_REFC_COUNT,      CHK_P_INODE_SHARED_FLAG,
		CHK_P_DIR_FREE_LIST,   CHK_P_DIR_ENTRY_TYPE,  CHK_P_DIR_ENTRY_COUNT,
		CHK_P_DIR_HASH_MISSING, CHK_P_DIR_HASH_UNKNOWN, CHK_P_DIR_PARENT,
		CHK_P_LINK_COUNT,      CHK_P_ORPHAN_DEAD,     CHK_P_ORPHAN_LINKED,
		CHK_P_ORPHAN_KIND,     CHK_P_SHIFT_LOST,      CHK_P_SPACE_LOST,
	};

	for (size_t i = 0; i < ARRAY_SIZE(safe); i++)
		if (safe[i] == code)
			return true;
	return false;
}

void chk_at(struct chk *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->where, sizeof(c->where), fmt, ap);
	va_end(ap);
}

void chk_raise(struct chk *c, enum chk_code code, const char *fmt, ...)
{
	char detail[192], name[32];
	va_list ap;

	assert(code < CHK_P_NR);
	if (chk_is_error(code))
		c->res->found++;
	if (c->raised[code]++ > PRINT_MAX || !c->opts->out)
		return;
	code_text(code, name, sizeof(name));
	if (c->raised[code] > PRINT_MAX) {
		fprintf(c->opts->out, "[%s] more of these are not shown\n", name);
		return;
	}
	va_start(ap, fmt);
	vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	fprintf(c->opts->out, "%s: %s%s%s%s [%s]\n", c->where, table[code].info.text,
		detail[0] ? " (" : "", detail, detail[0] ? ")" : "", name);
}
