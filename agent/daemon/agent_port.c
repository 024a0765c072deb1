/* SPDX-License-Identifier: AGPL-3.0-only */
/* The agent as its doors see it (port/agent.h): each call goes to the part that it concerns. */
#include "daemon/daemon.h"

#include <string.h>

static const char *port_site(const struct chp_agent *agent)
{
    return agent->config->agent.site;
}

static void port_submit(struct chp_agent *agent, const struct chp_request *request,
                        chp_reply_fn *on_reply, void *user)
{
    submit__request(agent, request, false, on_reply, user);
}

static void port_watch(struct chp_agent *agent, const struct chp_uuid *operation,
                       chp_notice_fn *on_notice, void *user)
{
    watchers__add(agent->watchers, operation, on_notice, user);
}

static void port_watch_events(struct chp_agent *agent, chp_event_fn *on_event, void *user)
{
    watchers__add_events(agent->watchers, on_event, user);
}

static void port_unwatch(struct chp_agent *agent, void *user)
{
    watchers__remove(agent->watchers, user);
    submit__forget(agent, user);
    shows__forget(agent->shows, user);
    resolves__forget(agent->resolves, user);
    histories__forget(agent->histories, user);
}

static void port_show(struct chp_agent *agent, const struct chp_show *show, chp_show_fn *on_answer,
                      void *user)
{
    shows__start(agent->shows, show, on_answer, user);
}

static void port_history(struct chp_agent *agent, const char *resource, size_t limit,
                         chp_json_fn *on_answer, void *user)
{
    histories__start(agent->histories, resource, limit, on_answer, user);
}

static void port_knowledge(struct chp_agent *agent, const struct chp_show *show,
                           chp_show_fn *on_answer, void *user)
{
    histories__knowledge(agent->histories, show, on_answer, user);
}

static void port_plan(struct chp_agent *agent, const struct chp_show *show, const char *type,
                      bool has_undo, chp_show_fn *on_answer, void *user)
{
    histories__plan(agent->histories, show, type, has_undo, on_answer, user);
}

static void port_resolve(struct chp_agent *agent, const struct chp_resolve *resolve,
                         const char *site, uint64_t timeout_ms, chp_resolve_fn *on_done, void *user)
{
    resolves__start(agent->resolves, resolve, site, timeout_ms, on_done, user);
}

static void port_query(struct chp_agent *agent, enum chp_query query, const char *const *params,
                       size_t param_count, chp_query_fn *on_answer, void *user)
{
    if (agent->store == NULL || !chp_store_up(agent->store)) {
        struct chp_error error = {0};
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the database is not there: %s",
                            agent->store_problem);
        on_answer(user, CHP_EUNAVAILABLE, NULL, &error);
        return;
    }
    chp_store_query(agent->store, query, params, param_count, on_answer, user);
}

static void port_query_cancel(struct chp_agent *agent, void *user)
{
    if (agent->store != NULL) {
        chp_store_query_cancel(agent->store, user);
    }
}

static void port_dead(struct chp_agent *agent, enum chp_dead_action action, const char *id,
                      chp_dead_fn *on_done, void *user)
{
    if (agent->broker == NULL || !chp_broker_up(agent->broker)) {
        struct chp_error error = {0};
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the broker is not there: %s",
                            agent->broker_problem);
        on_done(user, CHP_EUNAVAILABLE, NULL, 0, &error);
        return;
    }
    chp_broker_dead(agent->broker, action, id, on_done, user);
}

static int port_check(struct chp_agent *agent, const char *driver_name, struct chp_bytes payload,
                      const struct chp_file *files, size_t file_count, struct chp_error *error)
{
    struct chp_driver *driver = executor__driver(agent, driver_name);
    if (driver == NULL) {
        return chp_error_set(error, CHP_EREFUSED, "there is no driver \"%s\": shell and http are",
                             driver_name);
    }
    return driver->vtable->check(driver, payload, files, file_count, error);
}

static const struct chp_metrics *port_metrics(struct chp_agent *agent)
{
    agent->metrics.resources_cached =
        agent->engine == NULL ? 0 : (double)chp_engine_resource_count(agent->engine);
    agent->metrics.sites_up = agent->metrics.sites_down = 0;
    struct chp_peer_view view;
    for (size_t i = 0; agent->engine != NULL && chp_engine_peer(agent->engine, i, &view); i++) {
        agent->metrics.sites_up += view.up;
        agent->metrics.sites_down += !view.up;
    }
    return &agent->metrics;
}

static struct chp_metrics *port_metrics_mutable(struct chp_agent *agent)
{
    return &agent->metrics;
}

static int port_blob_begin(struct chp_agent *agent, struct chp_blob_writer **writer,
                           struct chp_error *error)
{
    return chp_blob_begin(agent->blobs, writer, error);
}

static bool port_blob_have(struct chp_agent *agent, const struct chp_sha256 *sha256, uint64_t *size)
{
    return chp_blob_have(agent->blobs, sha256, size);
}

const struct chp_agent_vtable agent_port__vtable = {
    .site = port_site,
    .submit = port_submit,
    .watch = port_watch,
    .watch_events = port_watch_events,
    .unwatch = port_unwatch,
    .show = port_show,
    .history = port_history,
    .knowledge = port_knowledge,
    .plan = port_plan,
    .resolve = port_resolve,
    .query = port_query,
    .query_cancel = port_query_cancel,
    .dead = port_dead,
    .check = port_check,
    .sites = report__sites,
    .scope_explain = report__scope,
    .doctor = doctor__check,
    .ready = report__ready,
    .metrics = port_metrics,
    .metrics_mutable = port_metrics_mutable,
    .blob_begin = port_blob_begin,
    .blob_write = chp_blob_write,
    .blob_finish = chp_blob_finish,
    .blob_abort = chp_blob_abort,
    .blob_have = port_blob_have,
};
