/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * A connection to PostgreSQL as a state machine on the loop: CLOSED -> CONNECTING -> SETTING_UP ->
 * READY, and from anywhere to WAITING and again to CONNECTING, with exponential backoff and full
 * jitter so that the agents of a host do not come back in step.
 *
 * Always in pipeline mode, non-blocking. A database whose schema is not the one that this program
 * was built for is as good as away, only that trying often is pointless. Every wait has a deadline
 * here, not only on the server: a stopped server or a dead route would otherwise hold a batch
 * forever. PQreset is not used: a fresh PGconn per attempt costs nothing and leaves no state
 * behind.
 */
#include "store/pg_conn.h"

#include "base/clock.h"
#include "base/log.h"
#include "store/pg_store.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECT_TIMEOUT_MS = 10 * 1000,
    SETUP_VERSION = 1, /* which result while setting up is the schema's version */
};

static const char *const state_names[] = {"closed", "waiting", "connecting", "setting up", "ready"};

/* Lines from, columns to. */
static const bool transitions[5][5] = {
    [PG_CONN_CLOSED] = {[PG_CONN_CONNECTING] = true, [PG_CONN_CLOSED] = true},
    [PG_CONN_WAITING] = {[PG_CONN_CONNECTING] = true, [PG_CONN_CLOSED] = true},
    [PG_CONN_CONNECTING] =
        {[PG_CONN_SETTING_UP] = true, [PG_CONN_WAITING] = true, [PG_CONN_CLOSED] = true},
    [PG_CONN_SETTING_UP] =
        {[PG_CONN_READY] = true, [PG_CONN_WAITING] = true, [PG_CONN_CLOSED] = true},
    [PG_CONN_READY] = {[PG_CONN_WAITING] = true, [PG_CONN_CLOSED] = true},
};

static void set_state(struct pg_conn *conn, enum pg_conn_state state)
{
    CHP_ASSERT(transitions[conn->state][state]);
    chp_log_debug("database connection", CHP_S("connection", conn->config.name),
                  CHP_S("from", state_names[conn->state]), CHP_S("to", state_names[state]));
    conn->state = state;
}

/* host of a dsn is a list; each must be empty, a socket directory, an abstract socket or an
 * address. */
static bool host_is_resolved(const char *host)
{
    while (host != NULL && *host != 0) {
        char one[128];
        size_t len = strcspn(host, ",");
        uint8_t address[sizeof(struct in6_addr)];
        if (len >= sizeof one) {
            return host[0] == '/' && host[len] == 0;
        }
        memcpy(one, host, len);
        one[len] = 0;
        if (one[0] != 0 && one[0] != '/' && one[0] != '@' &&
            inet_pton(AF_INET, one, address) != 1 && inet_pton(AF_INET6, one, address) != 1) {
            return false;
        }
        host += len + (host[len] == ',' ? 1 : 0);
    }
    return true;
}

static const char *option_value(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *option = options; option != NULL && option->keyword != NULL;
         option++) {
        if (strcmp(option->keyword, keyword) == 0 && option->val != NULL && option->val[0] != 0) {
            return option->val;
        }
    }
    return NULL;
}

int pg__dsn_check(const char *dsn, struct chp_error *error)
{
    char *message = NULL;
    PQconninfoOption *given = PQconninfoParse(dsn, &message);
    if (given == NULL) {
        /* libpq quotes what it could not parse, which may be a password. */
        PQfreemem(message);
        return chp_error_set(
            error, CHP_EINVAL,
            "the database's dsn is not a libpq connection string or a postgresql:// URI");
    }
    PQconninfoOption *defaults = PQconndefaults();
    int code = 0;
    const char *host = option_value(given, "host");
    if (host == NULL) {
        host = option_value(defaults, "host");
    }
    if (option_value(given, "service") != NULL) {
        code = chp_error_set(
            error, CHP_EINVAL,
            "the database's dsn must not name a service: give its options themselves");
    } else if (option_value(given, "hostaddr") == NULL &&
               option_value(defaults, "hostaddr") == NULL && !host_is_resolved(host)) {
        code = chp_error_set(
            error, CHP_EINVAL,
            "the database's host is '%s', a name that would have to be resolved: give a socket "
            "directory, an IP address, or hostaddr beside it",
            host);
    }
    PQconninfoFree(given);
    PQconninfoFree(defaults);
    return code;
}

static void one_line(char *text)
{
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' ')) {
        text[--len] = 0;
    }
    for (char *c = text; *c != 0; c++) {
        if (*c == '\n' || *c == '\t') {
            *c = ' ';
        }
    }
}

int pg__error_of(const PGresult *result, const PGconn *pg, struct chp_error *error)
{
    const char *state = result == NULL ? NULL : PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = result == NULL ? NULL : PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = result == NULL ? NULL : PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    bool refused = state != NULL && (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0);
    if (text == NULL) {
        text = result != NULL && PQresultErrorMessage(result)[0] != 0 ? PQresultErrorMessage(result)
                                                                      : PQerrorMessage(pg);
    }
    struct chp_error made = {0};
    int code = chp_error_set(&made, refused ? CHP_EINVAL : CHP_EUNAVAILABLE, "database: %s%s%s%s%s",
                             text, detail == NULL ? "" : ": ", detail == NULL ? "" : detail,
                             state == NULL ? "" : ", SQLSTATE ", state == NULL ? "" : state);
    one_line(made.text);
    if (error != NULL) {
        *error = made;
    }
    return code;
}

static void set_timer(struct pg_conn *conn, uint64_t delay_ms)
{
    struct timeval delay = {.tv_sec = (time_t)(delay_ms / 1000),
                            .tv_usec = (suseconds_t)(delay_ms % 1000) * 1000};
    (void)event_add(conn->timer, &delay);
}

static void forget_io(struct pg_conn *conn)
{
    if (conn->io != NULL) {
        event_free(conn->io);
        conn->io = NULL;
        conn->io_wanted = 0;
    }
}

static void close_pg(struct pg_conn *conn)
{
    forget_io(conn); /* before libpq closes the descriptor that it watches */
    PQfinish(conn->pg);
    conn->pg = NULL;
    (void)event_del(conn->timer);
}

void pg__conn_lose(struct pg_conn *conn, const struct chp_error *error)
{
    CHP_ASSERT(conn->state != PG_CONN_CLOSED && conn->state != PG_CONN_WAITING);
    struct chp_error kept = *error; /* may be conn->error, or of a batch that the callback ends */
    conn->error = kept;
    close_pg(conn);
    set_state(conn, PG_CONN_WAITING);
    if (conn->ready_ms != 0 && chp_clock_mono_ms() - conn->ready_ms >= conn->config.retry_max_ms) {
        chp_backoff_reset(&conn->retry);
    }
    conn->ready_ms = 0;
    uint64_t delay_ms =
        conn->hopeless ? conn->config.retry_max_ms : chp_backoff_next_ms(&conn->retry);
    set_timer(conn, delay_ms);
    chp_log_warn("database lost", CHP_S("connection", conn->config.name),
                 CHP_S("reason", kept.text), CHP_I("retry_ms", delay_ms));
    conn->config.on_lost(conn->config.user, &kept);
}

static void conn_on_io(evutil_socket_t fd, short what, void *user);

static void watch(struct pg_conn *conn, short wanted)
{
    int fd = PQsocket(conn->pg);
    if (conn->io != NULL && conn->io_wanted == wanted && event_get_fd(conn->io) == fd) {
        return;
    }
    forget_io(conn);
    CHP_ASSERT(fd >= 0);
    conn->io = event_new(conn->config.base, fd, (short)(wanted | EV_PERSIST), conn_on_io, conn);
    CHP_ASSERT(conn->io != NULL);
    conn->io_wanted = wanted;
    (void)event_add(conn->io, NULL);
}

static void lose_for_libpq(struct pg_conn *conn)
{
    struct chp_error error = {0};
    (void)pg__error_of(NULL, conn->pg, &error);
    pg__conn_lose(conn, &error);
}

/* True while the connection is there. */
static bool flush(struct pg_conn *conn)
{
    int left = PQflush(conn->pg);
    if (left < 0) {
        lose_for_libpq(conn);
        return false;
    }
    watch(conn, left > 0 ? EV_READ | EV_WRITE : EV_READ);
    return true;
}

void pg__conn_flush(struct pg_conn *conn, uint64_t timeout_ms)
{
    CHP_ASSERT(conn->state == PG_CONN_READY);
    set_timer(conn, timeout_ms);
    /* What went wrong in libpq is seen at the next turn: the socket becomes readable, or writable
     * with an error. */
    int left = PQflush(conn->pg);
    if (PQsocket(conn->pg) >= 0) {
        watch(conn, left != 0 ? EV_READ | EV_WRITE : EV_READ);
    } else {
        set_timer(conn, 0);
    }
}

void pg__conn_idle(struct pg_conn *conn)
{
    (void)event_del(conn->timer);
}

/* One implicit transaction: settings of the session, the schema's version, and all statements. */
static bool send_setup(struct pg_conn *conn)
{
    char timeout[24];
    (void)snprintf(timeout, sizeof timeout, "%llu",
                   (unsigned long long)conn->config.statement_timeout_ms);
    const char *values[] = {timeout, conn->config.plan_cache_mode};
    bool sent =
        PQsetnonblocking(conn->pg, 1) == 0 && PQenterPipelineMode(conn->pg) == 1 &&
        PQsendQueryParams(conn->pg,
                          "SELECT set_config('statement_timeout', $1, false),"
                          " set_config('synchronous_commit', 'on', false),"
                          " set_config('search_path', 'cheops, pg_catalog', false),"
                          " set_config('plan_cache_mode', $2, false)",
                          2, NULL, values, NULL, NULL, 0) == 1 &&
        PQsendQueryParams(conn->pg, "SELECT coalesce(max(version), 0) FROM cheops.migration", 0,
                          NULL, NULL, NULL, NULL, 0) == 1;
    for (size_t i = 0; sent && i < conn->config.statement_count; i++) {
        const struct pg_statement *statement = &conn->config.statements[i];
        sent = PQsendPrepare(conn->pg, statement->name, statement->sql, 0, NULL) == 1;
    }
    return sent && PQpipelineSync(conn->pg) == 1;
}

static int check_version(const PGresult *result, struct chp_error *error)
{
    unsigned here = (unsigned)strtoul(PQgetvalue(result, 0, 0), NULL, 10);
    unsigned ours = chp_pg_schema_version();
    if (here < ours) {
        return chp_error_set(error, CHP_EVERSION,
                             "the database's schema is version %u and this agent needs %u: run "
                             "'cheops-agent migrate'",
                             here, ours);
    }
    if (here > ours) {
        return chp_error_set(
            error, CHP_EVERSION,
            "the database's schema is version %u and this agent knows only %u: install the agent "
            "that migrated it, or a newer one",
            here, ours);
    }
    return 0;
}

/* Keeps the first error of the setup in conn->error. */
static void take_setup_result(struct pg_conn *conn, const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (conn->error.code != 0 || status == PGRES_PIPELINE_ABORTED) {
        return;
    }
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        if (conn->setup_index == SETUP_VERSION && state != NULL &&
            strncmp(state, "42P01", 5) == 0) {
            conn->hopeless = true;
            (void)chp_error_set(
                &conn->error, CHP_EVERSION,
                "the database has no schema 'cheops' yet: run 'cheops-agent migrate'");
        } else {
            (void)pg__error_of(result, conn->pg, &conn->error);
        }
    } else if (conn->setup_index == SETUP_VERSION && check_version(result, &conn->error) != 0) {
        conn->hopeless = true;
    }
}

/* Until the sync; then the connection is ready, or is not to be used. */
static void read_setup(struct pg_conn *conn)
{
    for (;;) {
        PGresult *result;
        switch (pg__conn_next(conn, &result)) {
        case PG_NEXT_WAIT:
            return;
        case PG_NEXT_RESULT:
            take_setup_result(conn, result);
            PQclear(result);
            break;
        case PG_NEXT_END:
            conn->setup_index++;
            break;
        case PG_NEXT_LOST:
            if (conn->error.code == 0) {
                (void)pg__error_of(NULL, conn->pg, &conn->error);
            }
            pg__conn_lose(conn, &conn->error);
            return;
        case PG_NEXT_SYNC:
            if (conn->error.code != 0) {
                pg__conn_lose(conn, &conn->error);
                return;
            }
            pg__conn_idle(conn);
            conn->ready_ms = chp_clock_mono_ms();
            set_state(conn, PG_CONN_READY);
            chp_log_info("database ready", CHP_S("connection", conn->config.name),
                         CHP_I("server_version", PQserverVersion(conn->pg)));
            conn->config.on_ready(conn->config.user);
            return;
        }
    }
}

static void step_connecting(struct pg_conn *conn)
{
    forget_io(conn); /* the descriptor may be another one after each step */
    switch (PQconnectPoll(conn->pg)) {
    case PGRES_POLLING_READING:
        watch(conn, EV_READ);
        break;
    case PGRES_POLLING_WRITING:
        watch(conn, EV_WRITE);
        break;
    case PGRES_POLLING_OK:
        set_state(conn, PG_CONN_SETTING_UP);
        conn->setup_index = 0;
        conn->hopeless = false;
        conn->error = (struct chp_error){0};
        if (!send_setup(conn)) {
            lose_for_libpq(conn);
        } else {
            (void)flush(conn);
        }
        break;
    case PGRES_POLLING_FAILED:
    case PGRES_POLLING_ACTIVE:
    default:
        lose_for_libpq(conn);
        break;
    }
}

/* Rejecting input before what it holds has been read would lose the server's own words. */
static void take_input(struct pg_conn *conn)
{
    bool alive = PQconsumeInput(conn->pg) == 1;
    PGnotify *notification;
    while ((notification = PQnotifies(conn->pg)) != NULL) {
        PQfreemem(notification);
    }
    PGconn *pg = conn->pg;
    if (conn->state == PG_CONN_SETTING_UP) {
        read_setup(conn);
    } else {
        conn->config.on_input(conn->config.user);
    }
    if (!alive && conn->pg == pg) {
        lose_for_libpq(conn);
    }
}

static void conn_on_io(evutil_socket_t fd, short what, void *user)
{
    struct pg_conn *conn = user;
    (void)fd;
    if (conn->state == PG_CONN_CONNECTING) {
        step_connecting(conn);
        return;
    }
    CHP_ASSERT(conn->state == PG_CONN_SETTING_UP || conn->state == PG_CONN_READY);
    if ((what & EV_WRITE) != 0 && !flush(conn)) {
        return;
    }
    if ((what & EV_READ) != 0) {
        take_input(conn);
    }
}

/* What the server says beside results: never on standard error as libpq would have it. */
static void on_notice(void *user, const char *message)
{
    const struct pg_conn *conn = user;
    chp_log_debug("database notice", CHP_S("connection", conn->config.name),
                  CHP_S("text", message));
}

static void connect_now(struct pg_conn *conn)
{
    /* What stands after dbname wins over the dsn, what stands before it is the default. */
    const char *keywords[] = {"keepalives_idle", "tcp_user_timeout", "dbname",
                              "client_encoding", "application_name", NULL};
    const char *values[] = {"15", "20000", conn->config.dsn, "UTF8", conn->config.name, NULL};
    set_state(conn, PG_CONN_CONNECTING);
    set_timer(conn, CONNECT_TIMEOUT_MS);
    conn->pg = PQconnectStartParams(keywords, values, 1);
    CHP_ASSERT(conn->pg != NULL);
    (void)PQsetNoticeProcessor(conn->pg, on_notice, conn);
    if (PQstatus(conn->pg) == CONNECTION_BAD) {
        lose_for_libpq(conn);
    } else {
        watch(conn, EV_WRITE);
    }
}

static void conn_on_timer(evutil_socket_t fd, short what, void *user)
{
    struct pg_conn *conn = user;
    (void)fd;
    (void)what;
    if (conn->state == PG_CONN_WAITING || conn->state == PG_CONN_CLOSED) {
        connect_now(conn);
        return;
    }
    struct chp_error error = {0};
    if (conn->pg != NULL && PQstatus(conn->pg) == CONNECTION_BAD) {
        (void)pg__error_of(NULL, conn->pg, &error);
    } else {
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the database does not answer (%s)",
                            state_names[conn->state]);
    }
    pg__conn_lose(conn, &error);
}

void pg__conn_start(struct pg_conn *conn, const struct pg_conn_config *config)
{
    uint64_t seed;
    chp_random(&seed, sizeof seed);
    *conn = (struct pg_conn){.config = *config};
    chp_backoff_init(&conn->retry, 0, config->retry_min_ms, config->retry_max_ms, seed);
    conn->timer = evtimer_new(config->base, conn_on_timer, conn);
    CHP_ASSERT(conn->timer != NULL);
    set_timer(conn,
              0); /* not from inside: callbacks would reach a store that is still being made */
}

void pg__conn_stop(struct pg_conn *conn)
{
    if (conn->timer == NULL) {
        return;
    }
    close_pg(conn);
    event_free(conn->timer);
    conn->timer = NULL;
    set_state(conn, PG_CONN_CLOSED);
}

enum pg_next pg__conn_next(struct pg_conn *conn, PGresult **result)
{
    *result = NULL;
    if (PQisBusy(conn->pg) != 0) {
        return PG_NEXT_WAIT;
    }
    *result = PQgetResult(conn->pg);
    if (*result == NULL) {
        return PQstatus(conn->pg) == CONNECTION_BAD ? PG_NEXT_LOST : PG_NEXT_END;
    }
    if (PQresultStatus(*result) == PGRES_PIPELINE_SYNC) {
        PQclear(*result);
        *result = NULL;
        return PG_NEXT_SYNC;
    }
    return PG_NEXT_RESULT;
}
