/* SPDX-License-Identifier: AGPL-3.0-only */
/* Layout of PostgreSQL's binary arrays (its array_recv): dimensions, flags, element type, length
 * and lower bound of the one dimension, then per element its length (-1: NULL) and bytes, all
 * integers big-endian. */
#include "store/pg_value.h"

#include <arpa/inet.h>
#include <endian.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* From PostgreSQL's pg_type: types that are built in keep their OIDs forever. */
enum {
    OID_BOOL = 16,
    OID_BYTEA = 17,
    OID_INT8 = 20,
    OID_INT4 = 23,
    OID_TEXT = 25,
    OID_UUID = 2950,
};

enum { ARRAY_HEADER_BYTES = 20 };

void pg__columns_deinit(struct pg_columns *columns)
{
    for (size_t i = 0; i < PG_COLUMNS_MAX; i++) {
        chp_buf_deinit(&columns->columns[i].elements);
    }
    *columns = (struct pg_columns){0};
}

static void add_be32(struct chp_buf *buf, uint32_t value)
{
    uint32_t wire = htonl(value);
    chp_buf_add(buf, &wire, sizeof wire);
}

/* data NULL: NULL. */
static void add(struct pg_columns *columns, uint32_t type, const void *data, size_t len)
{
    CHP_ASSERT(columns->next < PG_COLUMNS_MAX && len <= INT32_MAX);
    struct chp_buf *elements = &columns->columns[columns->next].elements;
    if (columns->row_count == 0) {
        static const uint8_t header[ARRAY_HEADER_BYTES] = {0};
        columns->columns[columns->next].type = type;
        chp_buf_add(elements, header, sizeof header); /* filled in when the count is known */
    }
    CHP_ASSERT(columns->columns[columns->next].type == type);
    columns->columns[columns->next].has_null |= data == NULL;
    add_be32(elements, data == NULL ? UINT32_MAX : (uint32_t)len);
    if (data != NULL) {
        chp_buf_add(elements, data, len);
    }
    columns->next++;
}

void pg__add_text(struct pg_columns *columns, const char *text)
{
    add(columns, OID_TEXT, text, text == NULL ? 0 : strlen(text));
}

void pg__add_bytes(struct pg_columns *columns, struct chp_bytes bytes)
{
    add(columns, OID_BYTEA, bytes.data == NULL ? (const void *)"" : bytes.data, bytes.len);
}

void pg__add_null_bytes(struct pg_columns *columns)
{
    add(columns, OID_BYTEA, NULL, 0);
}

void pg__add_u64(struct pg_columns *columns, uint64_t value)
{
    if (value > INT64_MAX && columns->error.code == 0) {
        (void)chp_error_set(&columns->error, CHP_EINVAL,
                            "database: the number %llu is over 2^63-1, the largest that is stored",
                            (unsigned long long)value);
    }
    uint64_t wire = htobe64(value);
    add(columns, OID_INT8, &wire, sizeof wire);
}

void pg__add_i32(struct pg_columns *columns, int32_t value)
{
    uint32_t wire = htonl((uint32_t)value);
    add(columns, OID_INT4, &wire, sizeof wire);
}

void pg__add_bool(struct pg_columns *columns, bool value)
{
    uint8_t wire = value ? 1 : 0;
    add(columns, OID_BOOL, &wire, sizeof wire);
}

void pg__add_uuid(struct pg_columns *columns, const struct chp_uuid *uuid)
{
    add(columns, OID_UUID, uuid == NULL ? NULL : uuid->bytes, CHP_UUID_BYTES);
}

void pg__names_literal(struct chp_buf *literal, const char *const *names, size_t count)
{
    chp_buf_add_byte(literal, '{');
    for (size_t i = 0; i < count; i++) {
        chp_buf_add_text(literal, i == 0 ? "\"" : ",\"");
        for (const char *c = names[i]; *c != 0; c++) {
            if (*c == '"' || *c == '\\') {
                chp_buf_add_byte(literal, '\\');
            }
            chp_buf_add_byte(literal, (uint8_t)*c);
        }
        chp_buf_add_byte(literal, '"');
    }
    chp_buf_add_byte(literal, '}');
}

void pg__add_names(struct pg_columns *columns, const char *const *names, size_t count)
{
    struct chp_buf literal = {0};
    pg__names_literal(&literal, names, count);
    add(columns, OID_TEXT, literal.data, literal.len);
    chp_buf_deinit(&literal);
}

/* Takes json. NULL is what jansson makes of text that is not UTF-8. */
static void add_json(struct pg_columns *columns, json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    if (text == NULL && columns->error.code == 0) {
        (void)chp_error_set(&columns->error, CHP_EINVAL, "database: a name is not UTF-8");
    }
    pg__add_text(columns, text);
    free(text);
    json_decref(json);
}

void pg__add_vector(struct pg_columns *columns, const struct chp_vector *vector)
{
    json_t *json = json_array();
    for (size_t i = 0; i < vector->count && json != NULL; i++) {
        const struct chp_dot *dot = &vector->entries[i];
        if (json_array_append_new(json,
                                  json_pack("[s,I,I]", dot->origin, (json_int_t)dot->incarnation,
                                            (json_int_t)dot->n)) != 0) {
            json_decref(json);
            json = NULL;
        }
    }
    add_json(columns, json);
}

void pg__add_files(struct pg_columns *columns, const struct chp_file *files, size_t count)
{
    json_t *json = json_array();
    for (size_t i = 0; i < count && json != NULL; i++) {
        char sha256[CHP_SHA256_TEXT_BYTES];
        chp_sha256_format(&files[i].sha256, sha256);
        if (json_array_append_new(json, json_pack("{s:s,s:s,s:I}", "name", files[i].name, "sha256",
                                                  sha256, "size", (json_int_t)files[i].size)) !=
            0) {
            json_decref(json);
            json = NULL;
        }
    }
    add_json(columns, json);
}

void pg__row_end(struct pg_columns *columns)
{
    if (columns->row_count == 0) {
        columns->column_count = columns->next;
    }
    CHP_ASSERT(columns->next == columns->column_count);
    columns->next = 0;
    columns->row_count++;
}

void pg__columns_params(struct pg_columns *columns, const char **values, int *lengths, int *formats)
{
    CHP_ASSERT(columns->row_count > 0 && columns->row_count <= INT32_MAX);
    for (size_t i = 0; i < columns->column_count; i++) {
        struct chp_buf *elements = &columns->columns[i].elements;
        const uint32_t header[] = {htonl(1), htonl(columns->columns[i].has_null ? 1 : 0),
                                   htonl(columns->columns[i].type),
                                   htonl((uint32_t)columns->row_count), htonl(1)};
        static_assert(sizeof header == ARRAY_HEADER_BYTES, "one dimension");
        memcpy(elements->data, header, sizeof header);
        CHP_ASSERT(elements->len <= INT32_MAX);
        values[i] = (const char *)elements->data;
        lengths[i] = (int)elements->len;
        formats[i] = 1;
    }
}

/* The statements are this program's own: another length than the type's is a broken invariant. */
static void get_fixed(const PGresult *result, int row, int column, void *value, size_t size)
{
    CHP_ASSERT(PQgetisnull(result, row, column) == 0);
    CHP_ASSERT((size_t)PQgetlength(result, row, column) == size);
    memcpy(value, PQgetvalue(result, row, column), size);
}

uint64_t pg__get_u64(const PGresult *result, int row, int column)
{
    uint64_t wire;
    get_fixed(result, row, column, &wire, sizeof wire);
    return be64toh(wire);
}

int32_t pg__get_i32(const PGresult *result, int row, int column)
{
    uint32_t wire;
    get_fixed(result, row, column, &wire, sizeof wire);
    return (int32_t)ntohl(wire);
}

bool pg__get_bool(const PGresult *result, int row, int column)
{
    uint8_t wire;
    get_fixed(result, row, column, &wire, sizeof wire);
    return wire != 0;
}

char *pg__get_text(const PGresult *result, int row, int column, struct chp_arena *arena)
{
    if (PQgetisnull(result, row, column) != 0) {
        return NULL;
    }
    return chp_arena_strndup(arena, PQgetvalue(result, row, column),
                             (size_t)PQgetlength(result, row, column));
}

struct chp_bytes pg__get_bytes(const PGresult *result, int row, int column, struct chp_arena *arena)
{
    const char *copy = pg__get_text(result, row, column, arena);
    return chp_bytes(copy, copy == NULL ? 0 : (size_t)PQgetlength(result, row, column));
}

struct chp_uuid pg__get_uuid(const PGresult *result, int row, int column)
{
    struct chp_uuid uuid = {0};
    if (PQgetisnull(result, row, column) == 0) {
        get_fixed(result, row, column, uuid.bytes, sizeof uuid.bytes);
    }
    return uuid;
}

static uint32_t take_be32(const uint8_t **at, const uint8_t *end)
{
    uint32_t wire;
    CHP_ASSERT((size_t)(end - *at) >= sizeof wire);
    memcpy(&wire, *at, sizeof wire);
    *at += sizeof wire;
    return ntohl(wire);
}

void pg__get_names(const PGresult *result, int row, int column, struct chp_arena *arena,
                   const char ***names, size_t *count)
{
    const uint8_t *at = (const uint8_t *)PQgetvalue(result, row, column);
    const uint8_t *end = at + PQgetlength(result, row, column);
    uint32_t dimensions = take_be32(&at, end);
    uint32_t has_null = take_be32(&at, end);
    uint32_t type = take_be32(&at, end);
    CHP_ASSERT(dimensions <= 1 && has_null == 0 && type == OID_TEXT);
    *count = dimensions == 0 ? 0 : take_be32(&at, end);
    if (dimensions == 1) {
        (void)take_be32(&at, end); /* lower bound */
    }
    CHP_ASSERT(*count <= (size_t)(end - at) / sizeof(uint32_t));
    *names = chp_arena_calloc(arena, *count, sizeof **names);
    for (size_t i = 0; i < *count; i++) {
        uint32_t len = take_be32(&at, end);
        CHP_ASSERT(len <= (size_t)(end - at));
        (*names)[i] = chp_arena_strndup(arena, at, len);
        at += len;
    }
}

void pg__get_vector(const PGresult *result, int row, int column, struct chp_arena *arena,
                    struct chp_vector *vector)
{
    json_t *json = json_loadb(PQgetvalue(result, row, column),
                              (size_t)PQgetlength(result, row, column), 0, NULL);
    CHP_ASSERT(json_is_array(json));
    vector->count = json_array_size(json);
    vector->entries = chp_arena_calloc(arena, vector->count, sizeof *vector->entries);
    for (size_t i = 0; i < vector->count; i++) {
        const json_t *entry = json_array_get(json, i);
        vector->entries[i] = (struct chp_dot){
            .origin = chp_arena_strdup(arena, json_string_value(json_array_get(entry, 0))),
            .incarnation = (uint64_t)json_integer_value(json_array_get(entry, 1)),
            .n = (uint64_t)json_integer_value(json_array_get(entry, 2)),
        };
        CHP_ASSERT(vector->entries[i].origin != NULL);
    }
    json_decref(json);
}
