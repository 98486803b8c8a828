/* SPDX-License-Identifier: MIT */
/* Fields as text, and back. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uuid/uuid.h>

#include "ctl.h"
#include "ctl_debug.h"

#define BRIEF_BYTES 24u

static void format_hex(const uint8_t *bytes, unsigned len, bool brief, char *text)
{
	const unsigned shown = brief && len > BRIEF_BYTES ? BRIEF_BYTES : len;

	for (unsigned i = 0; i < shown; i++)
		snprintf(text + i * 2, 3, "%02x", bytes[i]);
	if (shown < len)
		snprintf(text + shown * 2, 8, "...");
}

/* In quotes, up to the zeros that pad it; what could confuse a terminal or a parser as \xNN. */
static void format_text(const uint8_t *bytes, unsigned len, char *text)
{
	size_t n = 0;

	while (len > 0 && bytes[len - 1] == '\0')
		len--;
	text[n++] = '"';
	for (unsigned i = 0; i < len && n + 6 < DEBUG_TEXT_MAX; i++) {
		if (bytes[i] < 0x20 || bytes[i] == 0x7f || bytes[i] == '"' || bytes[i] == '\\')
			n += (size_t)snprintf(text + n, 5, "\\x%02x", bytes[i]);
		else
			text[n++] = (char)bytes[i];
	}
	text[n++] = '"';
	text[n] = '\0';
}

static void format_number(uint64_t v, const struct od_place *p, char *text)
{
	const unsigned unused_bits = 64 - p->size * 8;

	switch (p->kind) {
	case OD_FK_HEX:
	case OD_FK_CRC:
		snprintf(text, 32, "0x%" PRIx64, v);
		break;
	case OD_FK_OCTAL:
		snprintf(text, 32, "0%" PRIo64, v);
		break;
	case OD_FK_SINT:
		snprintf(text, 32, "%" PRId64, (int64_t)(v << unused_bits) >> unused_bits);
		break;
	default:
		snprintf(text, 32, "%" PRIu64, v);
	}
}

void debug_format(const struct debug *d, const struct od_place *p, bool brief,
		  char text[DEBUG_TEXT_MAX])
{
	const uint8_t *bytes = d->block->b + p->offset;

	text[0] = '\0';
	if (od_kind_is_number(p->kind))
		format_number(od_place_get(d->block, p), p, text);
	else if (p->kind == OD_FK_TEXT)
		format_text(bytes, p->size, text);
	else if (p->kind == OD_FK_UUID)
		uuid_unparse_lower(bytes, text);
	else
		format_hex(bytes, p->size, brief, text);
}

/* ---- Back -------------------------------------------------------------------------- */

static int bad_value(const struct od_place *p, const char *text, const char *why)
{
	fprintf(stderr, "iomapctl: %s=%s: %s\n", p->path, text, why);
	return CTL_FAIL;
}

/* "1a2b" or, in quotes or plain, characters; shorter than the field: zeros follow. */
static int parse_hex(uint8_t *bytes, const struct od_place *p, const char *text)
{
	const size_t len = strlen(text);

	if (len % 2 != 0 || strspn(text, "0123456789abcdefABCDEF") != len)
		return bad_value(p, text, "bytes are pairs of hexadecimal digits");
	if (len / 2 > p->size)
		return bad_value(p, text, "longer than the field");
	memset(bytes, 0, p->size);
	for (size_t i = 0; i < len / 2; i++) {
		const char pair[3] = { text[2 * i], text[2 * i + 1] };

		bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return CTL_OK;
}

static int parse_text(uint8_t *bytes, const struct od_place *p, const char *text)
{
	size_t n = 0;

	memset(bytes, 0, p->size);
	for (const char *at = text; *at; at++) {
		if (n == p->size)
			return bad_value(p, text, "longer than the field");
		if (at[0] == '\\' && at[1] == 'x' && isxdigit((unsigned char)at[2]) &&
		    isxdigit((unsigned char)at[3])) {
			const char pair[3] = { at[2], at[3] };

			bytes[n++] = (uint8_t)strtoul(pair, NULL, 16);
			at += 3;
		} else {
			bytes[n++] = (uint8_t)*at;
		}
	}
	return CTL_OK;
}

static int parse_number(struct debug *d, const struct od_place *p, const char *text)
{
	const unsigned bits = p->size * 8;
	uint64_t v;
	char *end;

	errno = 0;
	v = strtoull(text, &end, 0);
	if (errno || end == text || *end)
		return bad_value(p, text, "is no number");
	/* strtoull took a sign: what is left of it above the field must be all ones. */
	if (bits < 64 && v >> bits != 0 && (text[0] != '-' || v >> bits != UINT64_MAX >> bits))
		return bad_value(p, text, "does not fit");
	od_place_set(d->block, p, v);
	return CTL_OK;
}

int debug_parse(struct debug *d, const struct od_place *p, const char *text)
{
	uint8_t *bytes = d->block->b + p->offset;
	uuid_t uuid;

	if (od_kind_is_number(p->kind))
		return parse_number(d, p, text);
	if (p->kind == OD_FK_TEXT)
		return parse_text(bytes, p, text);
	if (p->kind != OD_FK_UUID)
		return parse_hex(bytes, p, text);
	if (uuid_parse(text, uuid))
		return bad_value(p, text, "is no uuid");
	memcpy(bytes, uuid, sizeof(uuid));
	return CTL_OK;
}
