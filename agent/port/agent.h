/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The agent as its doors see it: everything that the HTTP door (gateway) may ask of the daemon. A
 * vtable, so that the door is tested with a double.
 *
 * Callbacks may come from inside the call when the answer is known at once. After a cancel or
 * unwatch with the same user pointer no callback comes.
 */
#ifndef CHP_PORT_AGENT_H
#define CHP_PORT_AGENT_H

#include "base/metrics.h"
#include "port/broker.h"
#include "port/store.h"

#include <jansson.h>

struct chp_agent;

/* Who asks: from the token or the unix socket's peer. */
struct chp_caller {
    const char *principal;
};

typedef void chp_reply_fn(void *user, const struct chp_reply *reply);
/* Valid during the call only. NULL: some may have been missed while the database was away, so what
 * is committed must be read. */
typedef void chp_notice_fn(void *user, const struct chp_notice *notice);
/* One site's answer to a show; then once with answer NULL when all have answered or the deadline
 * has passed (the sites that did not answer are those never called for). On error code != 0 and
 * answer NULL. sites lists those asked. */
typedef void chp_show_fn(void *user, int code, const struct chp_answer *answer,
                         const char *const *sites, size_t site_count,
                         const struct chp_error *error);
/* json is valid during the call only; NULL with code != 0. */
typedef void chp_json_fn(void *user, int code, json_t *json, const struct chp_error *error);
/* code 0: the execution is resolved, committed at its site. */
typedef void chp_resolve_fn(void *user, int code, const char *error);
/* A new event, committed: its number and its JSON object. */
typedef void chp_event_fn(void *user, uint64_t number, const char *kind, const char *json);

/* A blob that is being received from a client. */
struct chp_blob_writer;

/* What doctor judges beside what the agent knows itself; each NULL when it could not be asked. */
struct chp_doctor_facts {
    const json_t *streams;  /* answer of CHP_QUERY_SITES */
    const json_t *dead;     /* [{"reason"}] of the dead letters */
    const json_t *troubled; /* answer of CHP_QUERY_TROUBLED */
};

struct chp_agent_vtable {
    const char *(*site)(const struct chp_agent *agent);
    /* Admits; on_reply once. The request is copied. 503 while the store is down, 429 when too many
     * wait. */
    void (*submit)(struct chp_agent *agent, const struct chp_request *request,
                   chp_reply_fn *on_reply, void *user);
    /* Tells what is new about an operation of this origin from now on; read the committed state
     * with query after subscribing and leave out what is known (state and run per site). During the
     * call that says that the operation was admitted, no duplicate, nothing of it has ended yet. */
    void (*watch)(struct chp_agent *agent, const struct chp_uuid *operation,
                  chp_notice_fn *on_notice, void *user);
    void (*watch_events)(struct chp_agent *agent, chp_event_fn *on_event, void *user);
    /* All watches, submits, shows, histories, plans and resolves of user. */
    void (*unwatch)(struct chp_agent *agent, void *user);
    void (*show)(struct chp_agent *agent, const struct chp_show *show, chp_show_fn *on_answer,
                 void *user);
    /* What this site holds of a resource: its limit newest operations, in the order of the
     * sequence, with what became of them and why. CHP_ENOTFOUND, CHP_EBUSY, CHP_EUNAVAILABLE. */
    void (*history)(struct chp_agent *agent, const char *resource, size_t limit,
                    chp_json_fn *on_answer, void *user);
    /* Asks every member, as show does, what it knows of a resource; the outputs are JSON objects. A
     * member that does not know the question refuses. Of show only id, resource, principal and
     * deadline count. */
    void (*knowledge)(struct chp_agent *agent, const struct chp_show *show, chp_show_fn *on_answer,
                      void *user);
    /* The same, of what a new operation of this type, made here now, would do. */
    void (*plan)(struct chp_agent *agent, const struct chp_show *show, const char *type,
                 bool has_undo, chp_show_fn *on_answer, void *user);
    /* An execution in doubt at site. CHP_ETIMEOUT when another site did not answer within
     * timeout_ms (at most CHP_DEADLINE_MAX_MS): it may yet do it. resolve is copied. */
    void (*resolve)(struct chp_agent *agent, const struct chp_resolve *resolve, const char *site,
                    uint64_t timeout_ms, chp_resolve_fn *on_done, void *user);
    void (*query)(struct chp_agent *agent, enum chp_query query, const char *const *params,
                  size_t param_count, chp_query_fn *on_answer, void *user);
    void (*query_cancel)(struct chp_agent *agent, void *user);
    void (*dead)(struct chp_agent *agent, enum chp_dead_action action, const char *id,
                 chp_dead_fn *on_done, void *user);
    /* Driver's check at the door. */
    int (*check)(struct chp_agent *agent, const char *driver, struct chp_bytes payload,
                 const struct chp_file *files, size_t file_count, struct chp_error *error);
    /* The live part of "sites":
     * [{"site","self","link","state","since","heard_at","round_trip_ms","version",
     * "software","clock_offset_ms"}]; new reference. */
    json_t *(*sites)(struct chp_agent *agent);
    /* {"scope": printed, "tree": ..., "sites": [...], "why": [...]}; NULL with *error. */
    json_t *(*scope_explain)(struct chp_agent *agent, const char *scope, struct chp_error *error);
    /* [{"check","ok","detail","advice"}], of broker, store, links and what waits for them,
     * executions in doubt, dead letters, clock, disk, policy; new reference. */
    json_t *(*doctor)(struct chp_agent *agent, const struct chp_doctor_facts *facts);
    /* Ready: store and broker are up. *error says what is missing. */
    int (*ready)(struct chp_agent *agent, struct chp_error *error);
    const struct chp_metrics *(*metrics)(struct chp_agent *agent);
    struct chp_metrics *(*metrics_mutable)(struct chp_agent *agent);

    /* Blobs in pieces: begin, write in order, finish gives hash and size (the file is then kept),
     * abort forgets. */
    int (*blob_begin)(struct chp_agent *agent, struct chp_blob_writer **writer,
                      struct chp_error *error);
    int (*blob_write)(struct chp_blob_writer *writer, const void *data, size_t len,
                      struct chp_error *error);
    int (*blob_finish)(struct chp_blob_writer *writer, struct chp_sha256 *sha256, uint64_t *size,
                       struct chp_error *error);        /* frees writer */
    void (*blob_abort)(struct chp_blob_writer *writer); /* frees writer; NULL is fine */
    bool (*blob_have)(struct chp_agent *agent, const struct chp_sha256 *sha256, uint64_t *size);
};

struct chp_agent_port {
    struct chp_agent *agent;
    const struct chp_agent_vtable *vtable;
};

#endif
