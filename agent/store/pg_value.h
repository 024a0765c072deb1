/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Values in PostgreSQL's binary format, both ways. What a statement takes is always columns: one
 * array per parameter, unnested by the statement, so that one row and a thousand are the same code
 * and one round of parsing, planning and checking on the server. Internal to the store.
 */
#ifndef CHP_STORE_PG_VALUE_H
#define CHP_STORE_PG_VALUE_H

#include "wire/item.h"

#include <libpq-fe.h>

enum { PG_COLUMNS_MAX = 32 };

/* Zero-initialise. A row is added by one pg__add_* call per column, in order, then pg__row_end. */
struct pg_columns {
    struct {
        struct chp_buf elements;
        uint32_t type; /* OID */
        bool has_null;
    } columns[PG_COLUMNS_MAX];
    size_t column_count; /* known after the first row */
    size_t next;
    size_t row_count;
    struct chp_error error; /* first value that cannot be stored: code CHP_EINVAL */
};

void pg__columns_deinit(struct pg_columns *columns);
void pg__add_text(struct pg_columns *columns, const char *text); /* NULL is NULL */
void pg__add_bytes(struct pg_columns *columns, struct chp_bytes bytes);
void pg__add_null_bytes(struct pg_columns *columns);
/* Values over 2^63-1 are an error. */
void pg__add_u64(struct pg_columns *columns, uint64_t value);
void pg__add_i32(struct pg_columns *columns, int32_t value);
void pg__add_bool(struct pg_columns *columns, bool value);
void pg__add_uuid(struct pg_columns *columns, const struct chp_uuid *uuid); /* NULL is NULL */
/* As text of an array literal: unnest would flatten an array of arrays. */
void pg__add_names(struct pg_columns *columns, const char *const *names, size_t count);
/* Appends the names as an array literal. */
void pg__names_literal(struct chp_buf *literal, const char *const *names, size_t count);
void pg__add_vector(struct pg_columns *columns, const struct chp_vector *vector); /* as JSON text */
void pg__add_files(struct pg_columns *columns, const struct chp_file *files, size_t count);
void pg__row_end(struct pg_columns *columns);
/* Appends the columns as array parameters; the values point into the columns. */
void pg__columns_params(struct pg_columns *columns, const char **values, int *lengths,
                        int *formats);

/* Of a result in binary format. */
uint64_t pg__get_u64(const PGresult *result, int row, int column);
int32_t pg__get_i32(const PGresult *result, int row, int column);
bool pg__get_bool(const PGresult *result, int row, int column);
/* NULL when NULL. */
char *pg__get_text(const PGresult *result, int row, int column, struct chp_arena *arena);
struct chp_bytes pg__get_bytes(const PGresult *result, int row, int column,
                               struct chp_arena *arena);
/* Zeroed when NULL. */
struct chp_uuid pg__get_uuid(const PGresult *result, int row, int column);
void pg__get_names(const PGresult *result, int row, int column, struct chp_arena *arena,
                   const char ***names, size_t *count);
void pg__get_vector(const PGresult *result, int row, int column, struct chp_arena *arena,
                    struct chp_vector *vector);

#endif
