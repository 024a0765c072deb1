/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What a site knows of a resource, for its doors and for other sites that ask (account.h makes the
 * answers): the rows are read with the next batch, so the answer is of what is committed.
 *
 * Other sites ask by a show whose driver is the agent itself (schema/wire.md).
 */
#include "daemon/account.h"
#include "daemon/daemon.h"

#include <stdlib.h>
#include <string.h>

enum { ASKS_MAX = 16 }; /* each has all rows of a resource in memory for a while */

static const char ask_knowledge[] = "{\"ask\":\"knowledge\"}";

enum ask_kind {
    ASK_HISTORY,   /* for a door */
    ASK_PLAN,      /* for a door: then all members are asked */
    ASK_KNOWLEDGE, /* for a show that runs here, as the next */
    ASK_STEPS,
};

/* A question that waits for the rows. */
struct ask {
    struct chp_list link;
    struct histories *histories;
    struct chp_arena arena;
    enum ask_kind kind;
    uint64_t ticket;
    const char *resource;
    size_t limit;
    struct chp_show show;
    const char *type;
    bool has_undo;
    struct chp_operation operation; /* STEPS */
    chp_json_fn *on_json;
    chp_show_fn *on_answer;
    chp_completion_fn *on_done;
    void *user;
    bool querying; /* level none: the rows are not loaded */
};

struct histories {
    struct chp_agent *agent;
    struct chp_list asks;
    size_t count;
    uint64_t last_ticket;
};

struct histories *histories__new(struct chp_agent *agent)
{
    struct histories *histories = chp_alloc(sizeof *histories);
    histories->agent = agent;
    chp_list_init(&histories->asks);
    return histories;
}

static void free_ask(struct ask *ask)
{
    if (ask->querying) {
        chp_store_query_cancel(ask->histories->agent->store, ask);
    }
    chp_list_remove(&ask->link);
    ask->histories->count--;
    struct chp_arena arena = ask->arena;
    free(ask);
    chp_arena_deinit(&arena);
}

void histories__free(struct histories *histories)
{
    CHP_LIST_FOREACH_SAFE(&histories->asks, link, following)
    {
        free_ask(CHP_CONTAINER(link, struct ask, link));
    }
    free(histories);
}

void histories__forget(struct histories *histories, const void *user)
{
    CHP_LIST_FOREACH_SAFE(&histories->asks, link, following)
    {
        struct ask *ask = CHP_CONTAINER(link, struct ask, link);
        if (ask->user == user) {
            free_ask(ask);
        }
    }
}

/* To who asked; json is borrowed. PLAN with code 0: the members will say it. */
static void answer(struct ask *ask, int code, json_t *json, const struct chp_error *error)
{
    struct chp_completion completion = {
        .operation = ask->show.id,
        .exit_code = -1,
        .state = code == 0 ? CHP_STATE_DONE : CHP_STATE_REFUSED,
        .reason = code == 0 ? NULL : error->text,
    };
    char *text = NULL;
    void *user = ask->user;
    ask->user = NULL; /* nobody may forget it from inside the callback */
    switch (ask->kind) {
    case ASK_HISTORY:
        ask->on_json(user, code, json, error);
        break;
    case ASK_PLAN:
        if (code != 0) {
            ask->on_answer(user, code, NULL, NULL, 0, error);
        }
        break;
    case ASK_KNOWLEDGE:
    case ASK_STEPS:
        text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
        CHP_ASSERT(text == NULL || strlen(text) <= CHP_OUTPUT_MAX_BYTES); /* ACCOUNT_LIST_MAX */
        completion.output = chp_bytes_of(text == NULL ? "" : text);
        completion.exit_code = code == 0 ? 0 : -1;
        ask->on_done(user, &completion);
        break;
    }
    free(text);
    free_ask(ask);
}

static void fail(struct ask *ask, int code, const char *text)
{
    struct chp_error error = {0};
    (void)chp_error_set(&error, code, "%s", text);
    answer(ask, code, NULL, &error);
}

void histories__reset(struct histories *histories)
{
    CHP_LIST_FOREACH_SAFE(&histories->asks, link, following)
    {
        struct ask *ask = CHP_CONTAINER(link, struct ask, link);
        if (!ask->querying) {
            fail(ask, CHP_EUNAVAILABLE, "the database went away: ask again");
        }
    }
}

/* Asks for the rows of a new question, or answers that it can't. */
static void load(struct ask *ask, struct histories *histories)
{
    struct chp_agent *agent = histories->agent;
    ask->histories = histories;
    ask->ticket = ++histories->last_ticket;
    chp_list_append(&histories->asks, &ask->link);
    histories->count++;
    if (!agent->engine_started) {
        fail(ask, CHP_EUNAVAILABLE, "the database is not there");
    } else if (histories->count > ASKS_MAX) {
        fail(ask, CHP_EBUSY, "too many such questions are being answered: try again later");
    } else {
        struct chp_batch *batch = &agent->open->batch;
        struct chp_load *rows = chp_batch_load(batch, CHP_LOAD_RESOURCE);
        rows->resource = chp_arena_strdup(&batch->arena, ask->resource);
        rows->limit = 1; /* of what is pending, which is not looked at */
        rows->token = token_of(TOKEN_HISTORY, ask->ticket);
        turn__arm(agent);
    }
}

void histories__start(struct histories *histories, const char *resource, size_t limit,
                      chp_json_fn *on_answer, void *user)
{
    struct ask *ask = chp_alloc(sizeof *ask);
    ask->kind = ASK_HISTORY;
    ask->resource = chp_arena_strdup(&ask->arena, resource);
    ask->limit = limit;
    ask->on_json = on_answer;
    ask->user = user;
    load(ask, histories);
}

void histories__knowledge(struct histories *histories, const struct chp_show *show,
                          chp_show_fn *on_answer, void *user)
{
    struct chp_show asked = *show;
    asked.driver = CHP_DRIVER_INTERNAL;
    asked.payload = chp_bytes_of(ask_knowledge);
    shows__start(histories->agent->shows, &asked, on_answer, user);
}

void histories__plan(struct histories *histories, const struct chp_show *show, const char *type,
                     bool has_undo, chp_show_fn *on_answer, void *user)
{
    struct ask *ask = chp_alloc(sizeof *ask);
    ask->kind = ASK_PLAN;
    ask->resource = chp_arena_strdup(&ask->arena, show->resource);
    ask->show = *show;
    ask->show.resource = ask->resource;
    ask->show.principal = chp_arena_strdup(&ask->arena, show->principal);
    ask->show.payload = chp_bytes(NULL, 0);
    ask->type = chp_arena_strdup(&ask->arena, type);
    ask->has_undo = has_undo;
    ask->on_answer = on_answer;
    ask->user = user;
    load(ask, histories);
}

/* An operation item is asked for the steps that it would bring; it must be of the resource. */
static int read_question(struct ask *ask, const struct chp_show *show, struct chp_error *error)
{
    struct chp_item item;
    if (chp_bytes_equal(show->payload, chp_bytes_of(ask_knowledge))) {
        ask->kind = ASK_KNOWLEDGE;
        return 0;
    }
    ask->kind = ASK_STEPS;
    struct chp_bytes bytes = chp_arena_bytes(&ask->arena, show->payload);
    if (chp_item_decode(bytes, &ask->arena, &item, NULL) != 0 || item.kind != CHP_ITEM_OPERATION ||
        strcmp(item.operation.resource, show->resource) != 0) {
        return chp_error_set(
            error, CHP_EINVAL,
            "this agent does not know the question: it may be older than who asks");
    }
    ask->operation = item.operation;
    return 0;
}

void histories__serve(struct histories *histories, const struct chp_show *show,
                      chp_completion_fn *on_done, void *user)
{
    struct chp_error error = {0};
    struct ask *ask = chp_alloc(sizeof *ask);
    int code = read_question(ask, show, &error);
    ask->resource = chp_arena_strdup(&ask->arena, show->resource);
    ask->show.id = show->id;
    ask->on_done = on_done;
    ask->user = user;
    if (code == 0) {
        load(ask, histories);
        return;
    }
    struct chp_completion refused = {
        .operation = show->id, .state = CHP_STATE_REFUSED, .exit_code = -1, .reason = error.text};
    struct chp_arena arena = ask->arena;
    free(ask);
    chp_arena_deinit(&arena);
    on_done(user, &refused);
}

/* Answers. */

/* The members are asked with the operation that would be made. */
static void ask_members(struct ask *ask, struct account *account)
{
    struct chp_agent *agent = ask->histories->agent;
    struct chp_operation operation;
    struct chp_item item = {.kind = CHP_ITEM_OPERATION};
    struct chp_buf bytes = {0};
    struct chp_error error = {0};
    const struct account_new made = {.principal = ask->show.principal,
                                     .type = ask->type,
                                     .has_undo = ask->has_undo,
                                     .incarnation = chp_engine_incarnation(agent->engine),
                                     .wall_ms = chp_clock_wall_ms()};
    int code = account__operation(account, &made, &ask->arena, &operation, &error);
    if (code == 0) {
        item.operation = operation;
        code = chp_item_encode(&item, &bytes, &error);
    }
    if (code == 0 && bytes.len > CHP_PAYLOAD_MAX_BYTES) {
        code = chp_error_set(&error, CHP_ETOOBIG,
                             "the operation would have seen too much to ask others about it: %zu "
                             "bytes, at most %d are allowed",
                             bytes.len, CHP_PAYLOAD_MAX_BYTES);
    }
    if (code == 0) {
        struct chp_show show = ask->show;
        show.driver = CHP_DRIVER_INTERNAL;
        show.payload = chp_buf_bytes(&bytes);
        shows__start(agent->shows, &show, ask->on_answer, ask->user);
    }
    answer(ask, code, NULL, &error);
    chp_buf_deinit(&bytes);
}

static void query_on_history(void *user, int code, const char *json, const struct chp_error *error)
{
    struct ask *ask = user;
    ask->querying = false;
    json_t *found = code != 0 || json == NULL ? NULL : json_loads(json, 0, NULL);
    if (code != 0) {
        answer(ask, code, NULL, error);
    } else if (found == NULL) {
        fail(ask, CHP_ENOTFOUND, "the resource is not here any more");
    } else {
        json_t *told = account__history_of_none(ask->resource,
                                                ask->histories->agent->config->agent.site, found);
        answer(ask, 0, told, NULL);
        json_decref(told);
    }
    json_decref(found);
}

static void ask_database(struct ask *ask)
{
    struct chp_agent *agent = ask->histories->agent;
    const char *limit = chp_arena_printf(&ask->arena, "%llu", (unsigned long long)ask->limit);
    const char *params[] = {ask->resource, limit};
    ask->querying = true;
    chp_store_query(agent->store, CHP_QUERY_HISTORY, params, 2, query_on_history, ask);
}

static void tell(struct ask *ask, const struct chp_load *rows)
{
    struct chp_agent *agent = ask->histories->agent;
    struct chp_error error = {0};
    json_t *json = NULL;
    struct account *account = account__new(rows, agent->config->agent.site);
    switch (ask->kind) {
    case ASK_HISTORY:
        json = account__history(account, ask->limit);
        break;
    case ASK_KNOWLEDGE:
        json = account__knowledge(account);
        break;
    case ASK_STEPS:
        json = account__plan(account, &ask->operation, &error);
        break;
    case ASK_PLAN:
        ask_members(ask, account);
        account__free(account);
        return;
    }
    answer(ask, json == NULL ? error.code : 0, json, &error);
    json_decref(json);
    account__free(account);
}

bool histories__loaded(struct histories *histories, const struct chp_load *rows)
{
    if (rows->kind != CHP_LOAD_RESOURCE || rows->token >> TOKEN_SHIFT != TOKEN_HISTORY) {
        return false;
    }
    CHP_LIST_FOREACH_SAFE(&histories->asks, link, following)
    {
        struct ask *ask = CHP_CONTAINER(link, struct ask, link);
        if (token_of(TOKEN_HISTORY, ask->ticket) != rows->token) {
            continue;
        }
        if (!rows->found) {
            struct chp_error error = {0};
            (void)chp_error_set(&error, CHP_ENOTFOUND, "resource \"%s\" is not known at %s",
                                ask->resource, histories->agent->config->agent.site);
            answer(ask, CHP_ENOTFOUND, NULL, &error);
        } else if (ask->kind == ASK_HISTORY && rows->resource_result.row.level == CHP_LEVEL_NONE) {
            ask_database(ask);
        } else {
            tell(ask, rows);
        }
        break;
    }
    return true;
}
