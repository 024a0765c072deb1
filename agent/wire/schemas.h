/* SPDX-License-Identifier: AGPL-3.0-only */
/* The tables of all messages, for the files of this folder. */
#ifndef CHP_WIRE_SCHEMAS_H
#define CHP_WIRE_SCHEMAS_H

#include "wire/codec.h"

/* Items, each in item_<kind>.c. */
extern const struct wire__schema wire__operation_schema;
extern const struct wire__schema wire__ack_schema;
extern const struct wire__schema wire__want_schema;
extern const struct wire__schema wire__show_schema;
extern const struct wire__schema wire__answer_schema;
extern const struct wire__schema wire__fetch_schema;
extern const struct wire__schema wire__chunk_schema;
extern const struct wire__schema wire__beat_schema;
extern const struct wire__schema wire__repair_schema; /* item_want.c, as the next */
extern const struct wire__schema wire__none_schema;
extern const struct wire__schema wire__past_schema;
extern const struct wire__schema wire__reincarnate_schema; /* item_past.c */
extern const struct wire__schema wire__report_schema;
extern const struct wire__schema wire__reported_schema; /* item_report.c */
extern const struct wire__schema wire__resolve_schema;
extern const struct wire__schema wire__resolved_schema; /* item_resolve.c */

/* What is part of several. */
extern const struct wire__schema wire__range_schema;   /* [origin, incarnation, first, last] */
extern const struct wire__schema wire__dot_schema;     /* [origin, incarnation, n] */
extern const struct wire__field wire__dot_element;     /* of a vector */
extern const struct wire__schema wire__command_schema; /* payload.c */
extern const struct wire__schema wire__rest_schema;

/* CHP_EMALFORMED unless every file has another name and those with content stay within their bounds
 * together. */
int wire__files_check(const struct chp_file *files, size_t count,
                      struct chp_error *error) CHP_MUST_CHECK;

/* Sorted by origin, then incarnation, each pair once. */
bool wire__vector_sorted(const struct chp_vector *vector);

/* As chp_item_decode, of an item that must be of this kind: it is judged before anything of the
 * item is read, so that items within items don't nest. */
int wire__decode_kind(enum chp_item_kind kind, struct chp_bytes bytes, struct chp_arena *arena,
                      struct chp_item *item, struct chp_error *error) CHP_MUST_CHECK;

#endif
