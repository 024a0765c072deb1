/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Bytes <-> structs, msgpack (schema/wire.md describes the format for other implementers).
 *
 * Decoding is bounded before it allocates: size, depth (CHP_WIRE_DEPTH_MAX), elements
 * (CHP_WIRE_ELEMENTS_MAX), and every count is compared with the bytes left. Unknown fields are
 * skipped; unknown versions and kinds are told apart from malformed input (CHP_EVERSION), since a
 * newer site may send them. Nothing here does I/O.
 */
#ifndef CHP_WIRE_WIRE_H
#define CHP_WIRE_WIRE_H

#include "wire/item.h"

/* Decodes a message's header and finds its items (which borrow from body). CHP_EMALFORMED,
 * CHP_ETOOBIG, CHP_ETOODEEP or CHP_EVERSION, with the reason in *error. */
int chp_message_decode(struct chp_bytes body, struct chp_arena *arena, struct chp_message *message,
                       struct chp_error *error) CHP_MUST_CHECK;
/* Appends a message with the header and the items' bytes as they are. The caller keeps the bounds.
 */
void chp_message_encode(const struct chp_header *header, const struct chp_bytes *items,
                        size_t count, struct chp_buf *out);

/* Decodes and validates one item: every string checked against the rules of wire/item.h, every
 * number against its bounds. item->operation.summary is made from payload and undo. */
int chp_item_decode(struct chp_bytes bytes, struct chp_arena *arena, struct chp_item *item,
                    struct chp_error *error) CHP_MUST_CHECK;
/* Appends an item's bytes; CHP_ETOOBIG when over CHP_ITEM_MAX_BYTES (CHP_ITEM_PAST:
 * CHP_PAST_MAX_BYTES). */
int chp_item_encode(const struct chp_item *item, struct chp_buf *out,
                    struct chp_error *error) CHP_MUST_CHECK;
/* How many of the first entries one report can carry: at least one of any. The rest goes into
 * another report. */
size_t chp_report_fit(const struct chp_report_entry *entries, size_t count);

#endif
