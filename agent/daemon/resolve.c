/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Executions in doubt that a person resolves (design 4.5). The engine does it for those of this
 * site; for those of another a "resolve" goes there on the control lane and is waited for: it is
 * not repeated, since to ask again is safe and only the person knows whether it is still wanted.
 */
#include "daemon/daemon.h"

#include <stdlib.h>
#include <string.h>

enum { VERSION_RESOLVE = 2 }; /* first wire version that has these items */

struct resolving {
    struct chp_list link;
    struct resolves *resolves;
    struct chp_arena arena;
    const char *from; /* the site that asked, or NULL: asked here */
    const char *site; /* whose execution it is */
    struct chp_resolve resolve;
    uint64_t ticket;        /* with the engine; 0: another site is asked */
    struct event *deadline; /* when another site is asked */
    chp_resolve_fn *on_done;
    void *user;
};

struct resolves {
    struct chp_agent *agent;
    struct chp_list waiting;
    size_t count;
};

struct resolves *resolves__new(struct chp_agent *agent)
{
    struct resolves *resolves = chp_alloc(sizeof *resolves);
    resolves->agent = agent;
    chp_list_init(&resolves->waiting);
    return resolves;
}

static void free_resolving(struct resolving *resolving)
{
    struct chp_arena arena = resolving->arena;
    if (resolving->deadline != NULL) {
        event_free(resolving->deadline);
    }
    chp_list_remove(&resolving->link);
    resolving->resolves->count--;
    free(resolving);
    chp_arena_deinit(&arena);
}

void resolves__free(struct resolves *resolves)
{
    CHP_LIST_FOREACH_SAFE(&resolves->waiting, link, following)
    {
        free_resolving(CHP_CONTAINER(link, struct resolving, link));
    }
    free(resolves);
}

static void answer_site(struct chp_agent *agent, const char *site, const struct chp_uuid *id,
                        int code, const char *reason)
{
    struct chp_item item = {
        .kind = CHP_ITEM_RESOLVED,
        .resolved = {.id = *id, .ok = code == 0, .reason = code == 0 ? NULL : reason}};
    (void)sender__control(agent, site, CHP_KEY_CONTROL, &item, 60000);
}

static void end(struct resolving *resolving, int code, const char *text)
{
    struct chp_agent *agent = resolving->resolves->agent;
    if (resolving->from != NULL) {
        answer_site(agent, resolving->from, &resolving->resolve.id, code, text);
    } else if (resolving->on_done != NULL) {
        resolving->on_done(resolving->user, code, text);
    }
    free_resolving(resolving);
}

static struct resolving *add(struct resolves *resolves, const struct chp_resolve *resolve)
{
    struct resolving *resolving = chp_alloc(sizeof *resolving);
    resolving->resolves = resolves;
    resolving->resolve = *resolve;
    resolving->resolve.principal = chp_arena_strdup(&resolving->arena, resolve->principal);
    chp_list_append(&resolves->waiting, &resolving->link);
    resolves->count++;
    return resolving;
}

/* The execution of this site itself. */
static void offer(struct resolving *resolving)
{
    struct chp_agent *agent = resolving->resolves->agent;
    resolving->site = agent->config->agent.site;
    if (!agent->engine_started) {
        end(resolving, CHP_EUNAVAILABLE, "the database is not there: nothing is resolved now");
        return;
    }
    resolving->ticket = ++agent->last_ticket;
    struct chp_event event = {.kind = CHP_EVENT_RESOLVE,
                              .resolve = {.ticket = resolving->ticket,
                                          .operation = resolving->resolve.operation,
                                          .resolution = resolving->resolve.resolution,
                                          .principal = resolving->resolve.principal}};
    turn__step(agent, &event);
}

static void resolving_on_deadline(evutil_socket_t fd, short what, void *user)
{
    struct resolving *resolving = user;
    struct chp_error error = {0};
    (void)fd;
    (void)what;
    (void)chp_error_set(&error, CHP_ETIMEOUT,
                        "%s did not answer in time: it may yet resolve it, see the operation",
                        resolving->site);
    end(resolving, CHP_ETIMEOUT, error.text);
}

/* Why a site cannot be asked, or 0. */
static int check_site(const struct chp_agent *agent, const char *site, struct chp_error *error)
{
    struct chp_peer_view view;
    for (size_t i = 0; agent->engine != NULL && chp_engine_peer(agent->engine, i, &view); i++) {
        if (strcmp(view.site, site) != 0) {
            continue;
        }
        if (view.version_max == 0) {
            return chp_error_set(error, CHP_EUNAVAILABLE,
                                 "nothing was heard of %s since this agent started", site);
        }
        return view.version >= VERSION_RESOLVE
                   ? 0
                   : chp_error_set(error, CHP_EREFUSED,
                                   "the agent of %s cannot be asked from here: upgrade it, or "
                                   "resolve it there",
                                   site);
    }
    return agent->engine == NULL
               ? chp_error_set(error, CHP_EUNAVAILABLE, "the database is not there")
               : chp_error_set(error, CHP_ENOTFOUND, "site \"%s\" is not known here", site);
}

static void ask_site(struct resolving *resolving, const char *site, uint64_t timeout_ms)
{
    struct chp_agent *agent = resolving->resolves->agent;
    struct chp_error error = {0};
    resolving->site = chp_arena_strdup(&resolving->arena, site);
    int code = check_site(agent, site, &error);
    struct chp_item item = {.kind = CHP_ITEM_RESOLVE, .resolve = resolving->resolve};
    if (code == 0 && sender__control(agent, site, CHP_KEY_CONTROL, &item, timeout_ms) != 0) {
        code = chp_error_set(&error, CHP_EUNAVAILABLE, "%s cannot be asked now: %s", site,
                             agent->broker_problem[0] != 0 ? agent->broker_problem
                                                           : "the broker has no room");
    }
    if (code != 0) {
        end(resolving, code, error.text);
        return;
    }
    struct timeval after = {.tv_sec = (time_t)(timeout_ms / 1000),
                            .tv_usec = (suseconds_t)(timeout_ms % 1000 * 1000)};
    resolving->deadline = evtimer_new(agent->base, resolving_on_deadline, resolving);
    CHP_ASSERT(resolving->deadline != NULL);
    (void)evtimer_add(resolving->deadline, &after);
}

void resolves__start(struct resolves *resolves, const struct chp_resolve *resolve, const char *site,
                     uint64_t timeout_ms, chp_resolve_fn *on_done, void *user)
{
    CHP_ASSERT(timeout_ms <= CHP_DEADLINE_MAX_MS);
    if (resolves->count >= CHP_RESOLVES_MAX) {
        on_done(user, CHP_EBUSY, "too many executions are being resolved: try again later");
        return;
    }
    struct resolving *resolving = add(resolves, resolve);
    resolving->on_done = on_done;
    resolving->user = user;
    if (strcmp(site, resolves->agent->config->agent.site) == 0) {
        offer(resolving);
    } else {
        ask_site(resolving, site, timeout_ms);
    }
}

void resolves__on_resolve(struct resolves *resolves, const char *from,
                          const struct chp_resolve *resolve)
{
    if (resolves->count >= CHP_RESOLVES_MAX) {
        answer_site(resolves->agent, from, &resolve->id, CHP_EBUSY,
                    "too many executions are being resolved there: try again later");
        return;
    }
    struct resolving *resolving = add(resolves, resolve);
    resolving->from = chp_arena_strdup(&resolving->arena, from);
    offer(resolving);
}

void resolves__on_resolved(struct resolves *resolves, const char *from,
                           const struct chp_resolved *resolved)
{
    CHP_LIST_FOREACH_SAFE(&resolves->waiting, link, following)
    {
        struct resolving *resolving = CHP_CONTAINER(link, struct resolving, link);
        if (resolving->ticket == 0 && chp_uuid_equal(&resolving->resolve.id, &resolved->id) &&
            strcmp(resolving->site, from) == 0) {
            end(resolving, resolved->ok ? 0 : CHP_ECONFLICT, resolved->reason);
            return;
        }
    }
}

void resolves__done(struct resolves *resolves, uint64_t ticket, int code, const char *error)
{
    CHP_LIST_FOREACH_SAFE(&resolves->waiting, link, following)
    {
        struct resolving *resolving = CHP_CONTAINER(link, struct resolving, link);
        if (resolving->ticket != ticket) {
            continue;
        }
        if (code == 0) {
            char id[CHP_UUID_TEXT_BYTES];
            chp_uuid_format(&resolving->resolve.operation, id);
            chp_log_info("execution resolved", CHP_S("operation", id),
                         CHP_S("as", chp_resolution_name(resolving->resolve.resolution)),
                         CHP_S("principal", resolving->resolve.principal));
        }
        end(resolving, code, error);
        return;
    }
}

void resolves__store_lost(struct resolves *resolves)
{
    CHP_LIST_FOREACH_SAFE(&resolves->waiting, link, following)
    {
        struct resolving *resolving = CHP_CONTAINER(link, struct resolving, link);
        if (resolving->ticket != 0) {
            end(resolving, CHP_EUNAVAILABLE,
                "the database went away: whether it was resolved is not known, see the operation");
        }
    }
}

void resolves__forget(struct resolves *resolves, const void *user)
{
    CHP_LIST_FOREACH_SAFE(&resolves->waiting, link, following)
    {
        struct resolving *resolving = CHP_CONTAINER(link, struct resolving, link);
        if (resolving->from == NULL && resolving->user == user) {
            resolving->on_done = NULL; /* what was asked goes on */
            resolving->user = NULL;
        }
    }
}
