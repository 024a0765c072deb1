/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Migrations: forward only, each in its own transaction together with its row in cheops.migration,
 * under an advisory lock so that two agents that start at once do not meet. Blocking: it runs
 * before the loop does, or as a command.
 *
 * Nothing but SELECT is needed when there is nothing to do, so that the agent's own role may have
 * no more than that.
 */
#include "store/migrations.h"
#include "store/pg_conn.h"
#include "store/pg_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Any constant that nobody else would choose: "cheops" in ASCII. */
#define LOCK_KEY "109300029550707"

unsigned chp_pg_schema_version(void)
{
    return (unsigned)store__migration_count;
}

/* CHP_EFORBIDDEN when the role may not, CHP_EUNAVAILABLE when the connection is gone, else CHP_EIO.
 */
static int failed(PGconn *pg, const PGresult *result, const char *doing, struct chp_error *error)
{
    struct chp_error cause = {0};
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    (void)pg__error_of(result, pg, &cause);
    int code = CHP_EIO;
    if (PQstatus(pg) == CONNECTION_BAD || (state != NULL && strcmp(state, "55P03") == 0)) {
        code = CHP_EUNAVAILABLE;
    } else if (state != NULL && strcmp(state, "42501") == 0) {
        code = CHP_EFORBIDDEN;
    }
    return chp_error_set(error, code, "%s: %s", doing, cause.text);
}

static int run(PGconn *pg, const char *sql, const char *doing, struct chp_error *error)
{
    PGresult *result = PQexec(pg, sql);
    ExecStatusType status = PQresultStatus(result);
    int code = 0;
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        code = failed(pg, result, doing, error);
    }
    PQclear(result);
    return code;
}

/* One number from one row. */
static int ask_number(PGconn *pg, const char *sql, const char *doing, unsigned *number,
                      struct chp_error *error)
{
    PGresult *result = PQexec(pg, sql);
    int code = 0;
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        code = failed(pg, result, doing, error);
    } else {
        *number = (unsigned)strtoul(PQgetvalue(result, 0, 0), NULL, 10);
    }
    PQclear(result);
    return code;
}

static int read_version(PGconn *pg, unsigned *version, struct chp_error *error)
{
    unsigned exists = 0;
    int code = ask_number(pg, "SELECT (to_regclass('cheops.migration') IS NOT NULL)::int",
                          "looking for the schema", &exists, error);
    *version = 0;
    if (code == 0 && exists == 1) {
        code = ask_number(pg, "SELECT coalesce(max(version), 0) FROM cheops.migration",
                          "reading the schema's version", version, error);
    }
    if (code == 0 && *version > chp_pg_schema_version()) {
        code = chp_error_set(
            error, CHP_EVERSION,
            "the database's schema is version %u and this program knows only %u: install the "
            "version of Cheops that migrated it, or a newer one",
            *version, chp_pg_schema_version());
    }
    return code;
}

static int record(PGconn *pg, unsigned version, const char *name, struct chp_error *error)
{
    char text[16];
    (void)snprintf(text, sizeof text, "%u", version);
    const char *params[] = {text, name};
    PGresult *result =
        PQexecParams(pg, "INSERT INTO cheops.migration (version, name) VALUES ($1::int, $2)", 2,
                     NULL, params, NULL, NULL, 0);
    int code = 0;
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        code = failed(pg, result, name, error);
    }
    PQclear(result);
    return code;
}

static int apply(PGconn *pg, unsigned version, struct chp_error *error)
{
    const struct migration *migration = &store__migrations[version - 1];
    int code = run(pg, "BEGIN", migration->name, error);
    if (code == 0) {
        code = run(pg, migration->sql, migration->name, error);
    }
    if (code == 0) {
        code = record(pg, version, migration->name, error);
    }
    if (code == 0) {
        return run(pg, "COMMIT", migration->name, error);
    }
    PQclear(PQexec(pg, "ROLLBACK"));
    return code;
}

/* Under the lock, which the end of the session gives up. */
static int apply_missing(PGconn *pg, unsigned *version, struct chp_error *error)
{
    unsigned utf8 = 0;
    int code = ask_number(pg,
                          "SELECT (pg_encoding_to_char(encoding) = 'UTF8')::int FROM pg_database"
                          " WHERE datname = current_database()",
                          "reading the database's encoding", &utf8, error);
    if (code == 0 && utf8 == 0) {
        code = chp_error_set(
            error, CHP_EINVAL,
            "the database's encoding is not UTF8: create it with \"ENCODING 'UTF8'\"");
    }
    if (code == 0) {
        code = run(pg, "SET lock_timeout = '60s'", "setting up", error);
    }
    if (code == 0) {
        code = run(pg, "SELECT pg_advisory_lock(" LOCK_KEY ")",
                   "waiting for another migration to end", error);
    }
    if (code == 0) {
        code = read_version(pg, version, error); /* it may have been raised while we waited */
    }
    while (code == 0 && *version < chp_pg_schema_version()) {
        code = apply(pg, *version + 1, error);
        *version += code == 0 ? 1 : 0;
    }
    return code;
}

int chp_pg_migrate(const char *dsn, unsigned *from, unsigned *to, struct chp_error *error)
{
    *from = *to = 0;
    int code = pg__dsn_check(dsn, error);
    if (code != 0) {
        return code;
    }
    const char *keywords[] = {"connect_timeout", "dbname", "client_encoding", "application_name",
                              NULL};
    const char *values[] = {"10", dsn, "UTF8", "cheops-agent migrate", NULL};
    PGconn *pg = PQconnectdbParams(keywords, values, 1);
    if (PQstatus(pg) != CONNECTION_OK) {
        code = pg__error_of(NULL, pg, error);
    } else {
        code = run(pg, "SET client_min_messages = warning", "setting up", error);
    }
    if (code == 0) {
        code = read_version(pg, from, error);
        *to = *from;
    }
    if (code == 0 && *from < chp_pg_schema_version()) {
        code = apply_missing(pg, to, error);
    }
    PQfinish(pg);
    return code;
}
