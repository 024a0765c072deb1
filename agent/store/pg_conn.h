/* SPDX-License-Identifier: AGPL-3.0-only */
/* One asynchronous connection to PostgreSQL that comes back by itself: see pg_conn.c. Internal to
 * the store. */
#ifndef CHP_STORE_PG_CONN_H
#define CHP_STORE_PG_CONN_H

#include "base/backoff.h"
#include "base/err.h"

#include <event2/event.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

struct pg_statement {
    const char *name;
    const char *sql;
};

enum pg_conn_state {
    PG_CONN_CLOSED,     /* not started, or stopped */
    PG_CONN_WAITING,    /* for the next attempt */
    PG_CONN_CONNECTING, /* libpq's handshake */
    PG_CONN_SETTING_UP, /* session settings, schema version, prepared statements */
    PG_CONN_READY,
};

struct pg_conn_config {
    const char *name; /* application_name, and in log lines */
    const char *dsn;
    struct event_base *base;
    uint64_t retry_min_ms;
    uint64_t retry_max_ms;
    uint64_t statement_timeout_ms;         /* by the server */
    const char *plan_cache_mode;           /* of PostgreSQL */
    const struct pg_statement *statements; /* prepared at each connect */
    size_t statement_count;
    void *user;
    void (*on_ready)(void *user);
    void (*on_input)(void *user); /* results may be there: call PQgetResult while not PQisBusy */
    /* From READY or from an attempt that failed; the next attempt is scheduled already. */
    void (*on_lost)(void *user, const struct chp_error *error);
};

struct pg_conn {
    struct pg_conn_config config; /* dsn borrowed */
    enum pg_conn_state state;
    PGconn *pg;
    struct event *io;
    short io_wanted;
    struct event *timer; /* next attempt, or the deadline of what is awaited */
    struct chp_backoff retry;
    uint64_t ready_ms;      /* since, monotonic; 0: it is not */
    bool hopeless;          /* the schema does not fit: retry slowly */
    size_t setup_index;     /* results seen while setting up */
    struct chp_error error; /* of the setup; then why it was lost last */
};

/* Refuses a dsn that cannot be parsed or would make libpq resolve a name. */
int pg__dsn_check(const char *dsn, struct chp_error *error) CHP_MUST_CHECK;
/* config is copied. Starts connecting at once. */
void pg__conn_start(struct pg_conn *conn, const struct pg_conn_config *config);
/* Safe on a zeroed one. No callback follows. */
void pg__conn_stop(struct pg_conn *conn);
/* Sends what is buffered. The connection is lost unless pg__conn_idle is called within timeout_ms.
 * Losing it is reported later, never from inside. */
void pg__conn_flush(struct pg_conn *conn, uint64_t timeout_ms);
/* All answers have come. */
void pg__conn_idle(struct pg_conn *conn);
/* Closes a connection that cannot be trusted any more and schedules the next attempt. */
void pg__conn_lose(struct pg_conn *conn, const struct chp_error *error);
/* The next piece of what has arrived. */
enum pg_next {
    PG_NEXT_WAIT,   /* nothing yet */
    PG_NEXT_RESULT, /* *result is the caller's */
    PG_NEXT_END,    /* of one statement */
    PG_NEXT_SYNC,   /* of everything that was sent */
    PG_NEXT_LOST,   /* nothing more will come: pg__conn_lose is the caller's to call */
};
enum pg_next pg__conn_next(struct pg_conn *conn, PGresult **result);
/* Error of a result (or of the connection when it has none): CHP_EINVAL when the data was refused
 * (class 22 or 23), else CHP_EUNAVAILABLE. */
int pg__error_of(const PGresult *result, const PGconn *pg, struct chp_error *error);

#endif
