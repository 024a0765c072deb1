/* SPDX-License-Identifier: AGPL-3.0-only */
/* /v1/resources/{id}/plan and /diff: what members say of themselves, side by side. A site that does
 * not answer, or does not know the question, has null instead, with the reason. */
#include "gateway/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* Kept until the answer. */
struct compare {
    const char *type; /* plan: of the operation; NULL: diff */
    json_t *told;     /* answers of the members, by site */
    json_t *read;     /* answers of their applications, or NULL: they are not asked */
    struct chp_show show;
    bool reading;
};

static void compare_free(void *state)
{
    struct compare *compare = state;
    json_decref(compare->told);
    json_decref(compare->read);
    free(compare);
}

static struct compare *compare_new(struct gateway_exchange *exchange)
{
    struct compare *compare = chp_alloc(sizeof *compare);
    compare->told = json_object();
    compare->show = (struct chp_show){.id = chp_uuid_new(),
                                      .resource = exchange->id,
                                      .principal = exchange->principal,
                                      .deadline_ms = GATEWAY_EXEC_TIMEOUT_MS};
    exchange->state = compare;
    exchange->state_free = compare_free;
    return compare;
}

/* What a member told: {"state": "done"|"refused"|"timeout", KEY: object or null, "reason"}. */
static json_t *json_of_told(const json_t *answer, const char *key)
{
    const char *state = json_string_value(json_object_get(answer, "state"));
    const char *output = json_string_value(json_object_get(answer, "output"));
    json_t *told = strcmp(state, "done") == 0 ? json_loads(output, 0, NULL) : NULL;
    json_t *json = json_object();
    bool unreadable = told == NULL && strcmp(state, "done") == 0;
    (void)json_object_set_new(json, "state", json_string(unreadable ? "refused" : state));
    (void)json_object_set_new(json, key, told == NULL ? json_null() : told);
    (void)json_object_set_new(json, "reason",
                              unreadable ? json_string("its answer cannot be read")
                                         : json_incref(json_object_get(answer, "reason")));
    return json;
}

/* By name, since they came in any order. */
static json_t *json_of_all(const struct compare *compare, const char *key, struct chp_arena *arena)
{
    json_t *sites = json_object();
    const char **names = gateway__sites_sorted(compare->told, arena);
    for (size_t i = 0; i < json_object_size(compare->told); i++) {
        const json_t *answer = json_object_get(compare->told, names[i]);
        (void)json_object_set_new(sites, names[i], json_of_told(answer, key));
    }
    return sites;
}

static void plan_done(struct gateway_exchange *exchange, const struct compare *compare)
{
    json_t *json = json_object();
    (void)json_object_set_new(json, "resource", gateway__json_text(exchange->id));
    (void)json_object_set_new(json, "type", gateway__json_text(compare->type));
    (void)json_object_set_new(json, "sites", json_of_all(compare, "plan", &exchange->arena));
    gateway__reply_json(exchange, 200, json);
}

static bool equal_field(const json_t *a, const json_t *b, const char *field)
{
    const json_t *left = json_object_get(a, field);
    const json_t *right = json_object_get(b, field);
    return left == right || json_equal(left, right);
}

/* Sequences are equal where the operations are; they begin elsewhere where not the same is
 * forgotten. */
static bool knows_the_same(const json_t *a, const json_t *b)
{
    return equal_field(a, b, "vector_digest") &&
           (!equal_field(a, b, "forgotten_digest") || equal_field(a, b, "digest"));
}

/* Null: nobody can say, since a member did not. */
static json_t *json_of_same(const json_t *sites)
{
    const json_t *first = NULL;
    bool unknown = false;
    const char *site;
    json_t *told;
    json_object_foreach((json_t *)(uintptr_t)sites, site, told)
    {
        const json_t *knows = json_object_get(told, "knows");
        if (json_is_null(knows)) {
            unknown = true;
        } else if (first != NULL && !knows_the_same(first, knows)) {
            return json_false();
        } else {
            first = knows;
        }
    }
    return unknown ? json_null() : json_true();
}

static void diff_done(struct gateway_exchange *exchange, const struct compare *compare)
{
    json_t *json = json_object();
    json_t *sites = json_of_all(compare, "knows", &exchange->arena);
    (void)json_object_set_new(json, "resource", gateway__json_text(exchange->id));
    (void)json_object_set_new(json, "same", json_of_same(sites));
    (void)json_object_set_new(json, "sites", sites);
    (void)json_object_set_new(json, "answers",
                              compare->read == NULL ? json_null() : json_incref(compare->read));
    (void)json_object_set_new(json, "groups",
                              compare->read == NULL
                                  ? json_null()
                                  : gateway__answer_groups(compare->read, &exchange->arena));
    gateway__reply_json(exchange, 200, json);
}

static void compare_on_answer(void *user, int code, const struct chp_answer *answer,
                              const char *const *sites, size_t site_count,
                              const struct chp_error *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    if (exchange == NULL) {
        return;
    }
    struct chp_agent_port *port = &exchange->door->port;
    struct compare *compare = exchange->state;
    if (code != 0) {
        gateway__reply_error(exchange, 0, code, error != NULL ? error->text : NULL);
    } else if (!gateway__answers_add(compare->reading ? compare->read : compare->told, answer,
                                     sites, site_count)) {
        return;
    } else if (compare->type != NULL) {
        plan_done(exchange, compare);
    } else if (compare->read != NULL && !compare->reading) {
        compare->reading = true;
        compare->show.id = chp_uuid_new();
        port->vtable->show(port->agent, &compare->show, compare_on_answer, exchange);
    } else {
        diff_done(exchange, compare);
    }
}

static int check_id(struct gateway_exchange *exchange)
{
    struct chp_error error = {0};
    int rc = chp_resource_id_check(exchange->id, &error);
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
    }
    return rc;
}

void gateway__resource_plan(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_request request = {.resource = exchange->id};
    struct chp_error error = {0};
    json_t *body = check_id(exchange) == 0 ? gateway__body_json(exchange) : NULL;
    if (body == NULL) {
        return;
    }
    struct compare *compare = compare_new(exchange);
    int rc = gateway__plan_from_json(body, &exchange->arena, &request, &compare->show.deadline_ms,
                                     &error);
    json_decref(body);
    if (rc == 0 && request.driver != NULL) {
        rc = gateway__request_check(port, &request, &error);
    }
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
        return;
    }
    compare->type = request.type;
    exchange->asked = true;
    port->vtable->plan(port->agent, &compare->show, request.type, request.undo.len > 0,
                       compare_on_answer, exchange);
}

void gateway__resource_diff(struct gateway_exchange *exchange)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_error error = {0};
    json_t *body = check_id(exchange) == 0 ? gateway__body_json(exchange) : NULL;
    if (body == NULL) {
        return;
    }
    struct compare *compare = compare_new(exchange);
    bool reads = json_object_get(body, "command") != NULL || json_object_get(body, "http") != NULL;
    int rc = reads ? gateway__show_from_json(body, &exchange->arena, &compare->show, &error)
                   : gateway__ask_from_json(body, &compare->show.deadline_ms, &error);
    json_decref(body);
    if (rc == 0 && reads) {
        compare->read = json_object();
        rc = port->vtable->check(port->agent, compare->show.driver, compare->show.payload, NULL, 0,
                                 &error);
    }
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
        return;
    }
    exchange->asked = true;
    port->vtable->knowledge(port->agent, &compare->show, compare_on_answer, exchange);
}
