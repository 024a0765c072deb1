/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Reading commands (design section 8, `show`): run on every site of a resource now, recorded
 * nowhere. They go on the control lane and expire there with their deadline; a site that is away is
 * named by its absence.
 */
#include "daemon/daemon.h"

#include "sequence/replica.h"

#include <stdlib.h>
#include <string.h>

/* A show that was asked for here. */
struct session {
    struct chp_list link;
    struct shows *shows;
    struct chp_arena arena;
    struct chp_show show;
    chp_show_fn *on_answer;
    void *user;
    const char **sites;
    bool *answered;
    size_t site_count;
    size_t waiting;
    struct event *deadline;
    bool querying;
};

/* A show that runs here, for a site. */
struct served {
    struct chp_list link;
    struct shows *shows;
    char *from; /* NULL: this site */
    struct chp_uuid id;
};

struct shows {
    struct chp_agent *agent;
    struct chp_list sessions;
    struct chp_list served;
    size_t count;
    size_t served_count;
};

struct shows *shows__new(struct chp_agent *agent)
{
    struct shows *shows = chp_alloc(sizeof *shows);
    shows->agent = agent;
    chp_list_init(&shows->sessions);
    chp_list_init(&shows->served);
    return shows;
}

static void free_session(struct session *session)
{
    if (session->querying) {
        chp_store_query_cancel(session->shows->agent->store, session);
    }
    if (session->deadline != NULL) {
        event_free(session->deadline);
    }
    chp_list_remove(&session->link);
    session->shows->count--;
    struct chp_arena arena = session->arena;
    free(session);
    chp_arena_deinit(&arena);
}

static void free_served(struct served *served)
{
    chp_list_remove(&served->link);
    served->shows->served_count--;
    free(served->from);
    free(served);
}

void shows__free(struct shows *shows)
{
    CHP_LIST_FOREACH_SAFE(&shows->sessions, link, following)
    {
        free_session(CHP_CONTAINER(link, struct session, link));
    }
    CHP_LIST_FOREACH_SAFE(&shows->served, link, following)
    {
        free_served(CHP_CONTAINER(link, struct served, link));
    }
    free(shows);
}

static void end(struct session *session, int code, const struct chp_error *error)
{
    if (session->on_answer != NULL) {
        session->on_answer(session->user, code, NULL, session->sites, session->site_count, error);
    }
    free_session(session);
}

static void take_answer(struct session *session, const struct chp_answer *answer)
{
    for (size_t i = 0; i < session->site_count; i++) {
        if (strcmp(session->sites[i], answer->site) != 0 || session->answered[i]) {
            continue;
        }
        session->answered[i] = true;
        session->waiting--;
        if (session->on_answer != NULL) {
            session->on_answer(session->user, 0, answer, session->sites, session->site_count, NULL);
        }
        if (session->waiting == 0) {
            end(session, 0, NULL);
        }
        return;
    }
}

static struct session *find(struct shows *shows, const struct chp_uuid *id)
{
    CHP_LIST_FOREACH_SAFE(&shows->sessions, link, following)
    {
        struct session *session = CHP_CONTAINER(link, struct session, link);
        if (chp_uuid_equal(&session->show.id, id)) {
            return session;
        }
    }
    return NULL;
}

void shows__on_answer(struct shows *shows, const char *from, const struct chp_answer *answer)
{
    struct session *session = find(shows, &answer->id);
    if (session != NULL && strcmp(from, answer->site) == 0) {
        take_answer(session, answer);
    }
}

static void served_on_done(void *user, const struct chp_completion *completion)
{
    struct served *served = user;
    struct shows *shows = served->shows;
    struct chp_item item = {
        .kind = CHP_ITEM_ANSWER,
        .answer = {.id = served->id,
                   .site = shows->agent->config->agent.site,
                   .state =
                       completion->state == CHP_STATE_DONE || completion->state == CHP_STATE_REFUSED
                           ? completion->state
                           : CHP_STATE_FAILED,
                   .exit_code = completion->exit_code,
                   .reason = completion->reason,
                   .output = completion->output,
                   .output_cut = completion->output_cut,
                   .duration_ms = completion->duration_ms},
    };
    if (served->from != NULL) {
        (void)sender__control(shows->agent, served->from, CHP_KEY_CONTROL, &item, 60000);
    } else {
        struct session *session = find(shows, &served->id);
        if (session != NULL) {
            take_answer(session, &item.answer);
        }
    }
    free_served(served);
}

/* Runs a show here; from NULL when it was asked for here. */
static void serve(struct shows *shows, const char *from, const struct chp_show *show)
{
    struct chp_agent *agent = shows->agent;
    struct served *served = chp_alloc(sizeof *served);
    served->shows = shows;
    served->from = chp_strdup(from);
    served->id = show->id;
    chp_list_append(&shows->served, &served->link);
    shows->served_count++;
    bool internal = strcmp(show->driver, CHP_DRIVER_INTERNAL) == 0;
    struct chp_driver *driver = internal ? NULL : executor__driver(agent, show->driver);
    struct chp_error error = {0};
    int code = 0;
    if (shows->served_count > CHP_SHOWS_MAX) {
        code = chp_error_set(&error, CHP_EBUSY, "too many reading commands run at this site");
    } else if (internal) {
        histories__serve(agent->histories, show, served_on_done, served);
        return;
    } else if (driver == NULL) {
        code = chp_error_set(&error, CHP_EREFUSED, "this site has no driver \"%s\"", show->driver);
    } else {
        code = driver->vtable->check(driver, show->payload, NULL, 0, &error);
    }
    if (code != 0) {
        struct chp_completion refused = {.operation = show->id,
                                         .state = CHP_STATE_REFUSED,
                                         .exit_code = -1,
                                         .reason = error.text};
        served_on_done(served, &refused);
        return;
    }
    struct chp_run run = {
        .operation = show->id,
        .is_show = true,
        .site = agent->config->agent.site,
        .resource = show->resource,
        .type = "show",
        .payload = show->payload,
        .deadline_ms = show->deadline_ms,
    };
    driver->vtable->start(driver, &run, served_on_done, served);
}

void shows__on_show(struct shows *shows, const char *from, const struct chp_show *show)
{
    serve(shows, from, show);
}

static void session_on_deadline(evutil_socket_t fd, short what, void *user)
{
    (void)fd;
    (void)what;
    end(user, 0, NULL);
}

static void ask_sites(struct session *session)
{
    struct chp_agent *agent = session->shows->agent;
    struct timeval after = {.tv_sec = (time_t)(session->show.deadline_ms / 1000),
                            .tv_usec = (suseconds_t)(session->show.deadline_ms % 1000 * 1000)};
    session->deadline = evtimer_new(agent->base, session_on_deadline, session);
    CHP_ASSERT(session->deadline != NULL);
    (void)evtimer_add(session->deadline, &after);
    struct chp_item item = {.kind = CHP_ITEM_SHOW, .show = session->show};
    bool local = false;
    for (size_t i = 0; i < session->site_count; i++) {
        if (strcmp(session->sites[i], agent->config->agent.site) == 0) {
            local = true;
        } else {
            (void)sender__control(agent, session->sites[i], CHP_KEY_CONTROL, &item,
                                  session->show.deadline_ms);
        }
    }
    if (local) {
        struct shows *shows = session->shows;
        struct chp_show show = session->show; /* the answer may come at once and free the session */
        serve(shows, NULL, &show);
    }
}

/* The members of the resource, from its row. */
static void session_on_resource(void *user, int code, const char *json,
                                const struct chp_error *error)
{
    struct session *session = user;
    session->querying = false;
    struct chp_error problem = {0};
    if (code != 0) {
        end(session, code, error);
        return;
    }
    json_t *resource = json == NULL ? NULL : json_loads(json, 0, NULL);
    json_t *members = json_object_get(resource, "members");
    if (!json_is_array(members)) {
        json_decref(resource);
        (void)chp_error_set(&problem, CHP_ENOTFOUND, "resource \"%s\" is not known at %s",
                            session->show.resource, session->shows->agent->config->agent.site);
        end(session, CHP_ENOTFOUND, &problem);
        return;
    }
    session->site_count = json_array_size(members);
    session->waiting = session->site_count;
    session->sites = chp_arena_calloc(&session->arena, session->site_count, sizeof(char *));
    session->answered = chp_arena_calloc(&session->arena, session->site_count, sizeof(bool));
    for (size_t i = 0; i < session->site_count; i++) {
        session->sites[i] =
            chp_arena_strdup(&session->arena, json_string_value(json_array_get(members, i)));
    }
    json_decref(resource);
    ask_sites(session);
}

void shows__start(struct shows *shows, const struct chp_show *show, chp_show_fn *on_answer,
                  void *user)
{
    struct chp_agent *agent = shows->agent;
    struct chp_error error = {0};
    if (agent->store == NULL || !chp_store_up(agent->store)) {
        (void)chp_error_set(&error, CHP_EUNAVAILABLE, "the database is not there");
        on_answer(user, CHP_EUNAVAILABLE, NULL, NULL, 0, &error);
        return;
    }
    if (shows->count >= CHP_SHOWS_MAX) {
        (void)chp_error_set(&error, CHP_EBUSY, "too many reading commands wait: try again later");
        on_answer(user, CHP_EBUSY, NULL, NULL, 0, &error);
        return;
    }
    struct session *session = chp_alloc(sizeof *session);
    struct chp_arena *arena = &session->arena;
    session->shows = shows;
    session->on_answer = on_answer;
    session->user = user;
    session->show = *show;
    session->show.resource = chp_arena_strdup(arena, show->resource);
    session->show.driver = chp_arena_strdup(arena, show->driver);
    session->show.payload = chp_arena_bytes(arena, show->payload);
    session->show.principal = chp_arena_strdup(arena, show->principal);
    chp_list_append(&shows->sessions, &session->link);
    shows->count++;
    session->querying = true;
    const char *params[] = {session->show.resource};
    chp_store_query(agent->store, CHP_QUERY_RESOURCE, params, 1, session_on_resource, session);
}

void shows__forget(struct shows *shows, const void *user)
{
    CHP_LIST_FOREACH_SAFE(&shows->sessions, link, following)
    {
        struct session *session = CHP_CONTAINER(link, struct session, link);
        if (session->user == user) {
            free_session(session);
        }
    }
}
