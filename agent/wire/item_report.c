/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Report: version vectors of resources, which members compare (design section 4.7); reported: its
 * answer.
 *
 * A vector may have up to CHP_VECTOR_MAX entries, so what fits in one report depends on its
 * resources: bounded by values (what a scan allows) and bytes. Rejected: greater bounds for this
 * item, since whatever they are, a page of the largest vectors is beyond them.
 */
#include "wire/schemas.h"

#include "wire/wire.h"

#include <string.h>

#define REPORT(member) offsetof(struct chp_report, member)

enum {
    /* What msgpack needs at most for a head of an array or text, and for a number. */
    HEAD_BYTES = 5,
    NUMBER_BYTES = 9,
    /* Around the entries. */
    FRAME_VALUES = 16,
    FRAME_BYTES = 256,
    ENTRY_VALUES = 3, /* tuple, resource, vector; of which each element is four */
    DOT_VALUES = 4,
};
static_assert(FRAME_VALUES + ENTRY_VALUES + CHP_VECTOR_MAX * DOT_VALUES < CHP_WIRE_ELEMENTS_MAX,
              "the largest vector passes the scan");
static_assert(FRAME_BYTES + CHP_ID_MAX_BYTES +
                      CHP_VECTOR_MAX * (CHP_SITE_MAX_BYTES + 2 * (HEAD_BYTES + NUMBER_BYTES)) <
                  CHP_ITEM_MAX_BYTES,
              "the largest vector fits in an item");

static size_t entry_bytes(const struct chp_report_entry *entry)
{
    size_t bytes = (size_t)3 * HEAD_BYTES + strlen(entry->resource);
    for (size_t i = 0; i < entry->vector.count; i++) {
        bytes += (size_t)2 * (HEAD_BYTES + NUMBER_BYTES) + strlen(entry->vector.entries[i].origin);
    }
    return bytes;
}

size_t chp_report_fit(const struct chp_report_entry *entries, size_t count)
{
    size_t values = FRAME_VALUES;
    size_t bytes = FRAME_BYTES;
    size_t fit = 0;
    for (; fit < count && fit < CHP_REPORT_ENTRIES_MAX; fit++) {
        CHP_ASSERT(entries[fit].vector.count <= CHP_VECTOR_MAX);
        values += ENTRY_VALUES + entries[fit].vector.count * DOT_VALUES;
        bytes += entry_bytes(&entries[fit]);
        if (values > CHP_WIRE_ELEMENTS_MAX || bytes > CHP_ITEM_MAX_BYTES) {
            break;
        }
    }
    CHP_ASSERT(fit > 0 || count == 0);
    return fit;
}

static int check_entry(const void *object, struct chp_error *error)
{
    const struct chp_report_entry *entry = object;
    return wire__vector_sorted(&entry->vector)
               ? 0
               : chp_error_set(error, CHP_EMALFORMED,
                               "vector must be sorted by origin and incarnation, each pair once");
}

static const struct wire__field entry_fields[] = {
    {.name = "resource",
     .type = WIRE_TYPE_TEXT,
     .offset = offsetof(struct chp_report_entry, resource),
     .min = 1,
     .max = CHP_ID_MAX_BYTES,
     .check = chp_resource_id_check},
    {.name = "vector",
     .type = WIRE_TYPE_LIST,
     .offset = offsetof(struct chp_report_entry, vector.entries),
     .count = offsetof(struct chp_report_entry, vector.count),
     .element = &wire__dot_element,
     .element_bytes = sizeof(struct chp_dot),
     .max = CHP_VECTOR_MAX},
};
static const struct wire__schema entry_schema = {.fields = entry_fields,
                                                 .field_count = WIRE_LENGTH(entry_fields),
                                                 .tuple = true,
                                                 .check = check_entry};
static const struct wire__field entry_element = {.type = WIRE_TYPE_STRUCT, .schema = &entry_schema};

static const struct wire__field report_fields[] = {
    {.name = "upto", .type = WIRE_TYPE_UINT64, .offset = REPORT(upto), .max = WIRE_NUMBER_MAX},
    {.name = "end", .type = WIRE_TYPE_BOOL, .offset = REPORT(end), .optional = true},
    {.name = "operation_mark",
     .type = WIRE_TYPE_UINT64,
     .offset = REPORT(operation_mark),
     .optional = true,
     .max = WIRE_NUMBER_MAX},
    {.name = "to",
     .type = WIRE_TYPE_UINT64,
     .offset = REPORT(to),
     .optional = true,
     .max = WIRE_NUMBER_MAX},
    {.name = "ack_mark",
     .type = WIRE_TYPE_UINT64,
     .offset = REPORT(ack_mark),
     .optional = true,
     .max = WIRE_NUMBER_MAX},
    {.name = "entries",
     .type = WIRE_TYPE_LIST,
     .offset = REPORT(entries),
     .count = REPORT(entry_count),
     .optional = true,
     .element = &entry_element,
     .element_bytes = sizeof(struct chp_report_entry),
     .max = CHP_REPORT_ENTRIES_MAX},
};
const struct wire__schema wire__report_schema = {.fields = report_fields,
                                                 .field_count = WIRE_LENGTH(report_fields)};

static const struct wire__field reported_fields[] = {
    {.name = "upto",
     .type = WIRE_TYPE_UINT64,
     .offset = offsetof(struct chp_reported, upto),
     .max = WIRE_NUMBER_MAX},
};
const struct wire__schema wire__reported_schema = {.fields = reported_fields,
                                                   .field_count = WIRE_LENGTH(reported_fields)};
