/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * What is stuck at this site, why, and what to do next. What the agent knows itself (connections,
 * heartbeats, clock, disk) is looked at here; what the database and the broker know comes with the
 * question, each part NULL when it could not be asked: a check that cannot be made is left out
 * rather than guessed, and the check of the part that did not answer says why.
 */
#include "daemon/daemon.h"

#include "store/pg_store.h"
#include "wire/version.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum {
    DETAIL_BYTES = 640,         /* of NAMED_MAX ids and sites, for one */
    STUCK_AFTER_MS = 30 * 1000, /* a site that is up takes what waits for it sooner */
    DISK_FREE_PERCENT = 5,
    NAMED_MAX = 3, /* operations, resources and letters named in a detail */
    RESOURCES_DETAIL_BYTES = NAMED_MAX * (CHP_ID_MAX_BYTES + 2) + 32,
};
static const uint64_t disk_free_enough = 1024ULL * 1024 * 1024;

static_assert(NAMED_MAX * (CHP_UUID_TEXT_BYTES + CHP_SITE_MAX_BYTES + 8) + 32 < DETAIL_BYTES,
              "what is named fits");

static void add_check(json_t *checks, const char *check, bool ok, const char *detail,
                      const char *advice)
{
    json_t *row = json_object();
    json_object_set_new(row, "check", json_string(check));
    json_object_set_new(row, "ok", json_boolean(ok));
    json_object_set_new(row, "detail", json_string(detail));
    json_object_set_new(row, "advice", ok ? json_null() : json_string(advice));
    json_array_append_new(checks, row);
}

/* "2 h 5 min", of what began at since_ms. */
static const char *for_how_long(uint64_t since_ms, char *text, size_t size)
{
    uint64_t now_ms = chp_clock_wall_ms();
    unsigned long long s = now_ms > since_ms ? (now_ms - since_ms) / 1000 : 0;
    if (s < 60) {
        (void)snprintf(text, size, "%llu s", s);
    } else if (s < 3600) {
        (void)snprintf(text, size, "%llu min %llu s", s / 60, s % 60);
    } else if (s < 48 * 3600) {
        (void)snprintf(text, size, "%llu h %llu min", s / 3600, s % 3600 / 60);
    } else {
        (void)snprintf(text, size, "%llu days", s / (24 * 3600));
    }
    return text;
}

static void check_broker(struct chp_agent *agent, json_t *checks)
{
    char detail[CHP_ERROR_TEXT_BYTES + 64];
    char since[32];
    bool up = agent->broker != NULL && chp_broker_up(agent->broker);
    if (!up && agent->broker_lost_ms != 0) {
        (void)snprintf(detail, sizeof detail, "away for %s: %s",
                       for_how_long(agent->broker_lost_ms, since, sizeof since),
                       agent->broker_problem);
        add_check(checks, "broker", false, detail,
                  "start RabbitMQ, and check [broker] uri; operations are accepted and run here "
                  "meanwhile, and leave when it is back");
    } else if (!up) {
        add_check(checks, "broker", false, agent->broker_problem,
                  "start RabbitMQ, and check [broker] uri; operations run locally meanwhile");
    } else if (agent->broker_blocked) {
        (void)snprintf(detail, sizeof detail,
                       "blocked for %s by its alarm: nothing leaves this site, heartbeats neither",
                       for_how_long(agent->blocked_ms, since, sizeof since));
        add_check(checks, "broker", false, detail,
                  "free memory or disk on the broker's host (rabbitmq-diagnostics alarms says "
                  "which); operations are accepted and run here meanwhile");
    } else {
        add_check(checks, "broker", true, "connected, topology declared", NULL);
    }
}

static void check_store(struct chp_agent *agent, json_t *checks)
{
    char detail[CHP_ERROR_TEXT_BYTES + 64];
    char since[32];
    bool up = agent->store != NULL && chp_store_up(agent->store);
    if (up) {
        (void)snprintf(detail, sizeof detail, "connected");
    } else if (agent->store_lost_ms != 0) {
        (void)snprintf(detail, sizeof detail, "away for %s: %s",
                       for_how_long(agent->store_lost_ms, since, sizeof since),
                       agent->store_problem);
    } else {
        (void)snprintf(detail, sizeof detail, "%s", agent->store_problem);
    }
    add_check(checks, "database", up, detail,
              "start PostgreSQL, and check [database] dsn; nothing is accepted meanwhile, what "
              "others send waits in the broker, and other sites see this one down");
    (void)snprintf(detail, sizeof detail, "version %u", chp_pg_schema_version());
    add_check(checks, "schema", agent->store != NULL,
              agent->store != NULL ? detail : "not applied yet", "run cheops-agent migrate");
}

static const json_t *streams_of(const struct chp_doctor_facts *facts, const char *site)
{
    size_t i;
    json_t *row;
    json_array_foreach((json_t *)(uintptr_t)facts->streams, i, row)
    {
        const char *name = json_string_value(json_object_get(row, "site"));
        if (name != NULL && strcmp(name, site) == 0) {
            return row;
        }
    }
    return NULL;
}

static void check_down(const struct chp_peer_view *view, const char *name, long long waiting,
                       const char *oldest, json_t *checks)
{
    char detail[DETAIL_BYTES];
    char since[32];
    char queue[128] = "";
    if (waiting > 0) {
        (void)snprintf(queue, sizeof queue, "; %lld items wait for it%s%s", waiting,
                       oldest == NULL ? "" : ", the oldest since ", oldest == NULL ? "" : oldest);
    }
    (void)snprintf(
        detail, sizeof detail, "%s %s%s",
        view->state_known ? "down, no heartbeat for" : "not heard since the start,",
        for_how_long(view->heard_ms != 0 ? view->heard_ms : view->since_ms, since, sizeof since),
        queue);
    add_check(checks, name, false, detail,
              "see whether that site's broker, database and agent run (cheops doctor there), and "
              "whether this broker's shovels to it do (rabbitmqctl shovel_status); what waits "
              "leaves by itself when it is back");
}

/* What waits for a site that is up should be gone within moments. */
static bool is_stuck(const struct chp_agent *agent, const char *site, long long waiting)
{
    uint64_t still_ms = sender__still_ms(agent->sender, site);
    return waiting > 0 && still_ms > STUCK_AFTER_MS;
}

static void check_up(struct chp_agent *agent, const struct chp_peer_view *view, const char *name,
                     long long waiting, const char *oldest, json_t *checks)
{
    char detail[DETAIL_BYTES];
    if (!is_stuck(agent, view->site, waiting)) {
        (void)snprintf(detail, sizeof detail, "up, round trip %.1f ms, %lld items on their way",
                       (double)view->round_trip_us / 1000, waiting);
        add_check(checks, name, true, detail, NULL);
        return;
    }
    (void)snprintf(detail, sizeof detail, "up, but nothing moves towards it: %lld items wait%s%s",
                   waiting, oldest == NULL ? "" : ", the oldest since ",
                   oldest == NULL ? "" : oldest);
    add_check(
        checks, name, false, detail,
        agent->broker_blocked
            ? "they leave when this broker's alarm is over"
            : "its heartbeats arrive, so look at the way there: rabbitmqctl shovel_status and "
              "list_queues on this broker (queue cheops.out.<site>), and cheops doctor there");
}

static void check_links(struct chp_agent *agent, const struct chp_doctor_facts *facts,
                        json_t *checks)
{
    struct chp_peer_view view;
    for (size_t i = 0; agent->engine != NULL && chp_engine_peer(agent->engine, i, &view); i++) {
        char name[CHP_SITE_MAX_BYTES + 16];
        const json_t *row = streams_of(facts, view.site);
        long long waiting = json_integer_value(json_object_get(row, "waiting"));
        const char *oldest = json_string_value(json_object_get(row, "oldest_at"));
        (void)snprintf(name, sizeof name, "link %s", view.site);
        if (view.up) {
            check_up(agent, &view, name, waiting, oldest, checks);
        } else {
            check_down(&view, name, waiting, oldest, checks);
        }
    }
}

/* One check of all sites: the first that is a problem is told. */
static void check_versions(struct chp_agent *agent, json_t *checks)
{
    struct chp_peer_view view;
    char detail[DETAIL_BYTES];
    char problem[256] = "";
    for (size_t i = 0; problem[0] == 0 && agent->engine != NULL; i++) {
        if (!chp_engine_peer(agent->engine, i, &view)) {
            break;
        }
        report__version_problem(&view, problem, sizeof problem);
    }
    (void)snprintf(detail, sizeof detail, "this site speaks wire versions %d to %d",
                   CHP_WIRE_VERSION_MIN, CHP_WIRE_VERSION);
    if (problem[0] != 0) {
        (void)snprintf(detail, sizeof detail, "%s %s", view.site, problem);
    }
    add_check(checks, "versions", problem[0] == 0, detail,
              "install the later release of cheops-agent there and restart it: what waits goes on "
              "by itself");
}

static void check_clock(struct chp_agent *agent, json_t *checks)
{
    struct chp_now now = turn__now();
    bool suspect = agent->engine != NULL && chp_engine_clock_suspect(agent->engine, &now);
    int64_t largest = 0;
    const char *site = NULL;
    size_t up_count = 0;
    size_t far_count = 0;
    struct chp_peer_view view;
    for (size_t i = 0; agent->engine != NULL && chp_engine_peer(agent->engine, i, &view); i++) {
        uint64_t offset_ms = (uint64_t)llabs(view.clock_offset_ms);
        up_count += view.up;
        far_count += view.up && offset_ms > agent->config->agent.max_skew_ms;
        if (view.up && offset_ms > (uint64_t)llabs(largest)) {
            largest = view.clock_offset_ms;
            site = view.site;
        }
    }
    bool alone = up_count > 1 && far_count == up_count;
    char detail[DETAIL_BYTES];
    (void)snprintf(detail, sizeof detail, "%s, largest offset to a site that is up %lld ms%s%s",
                   suspect ? "not trusted: it leads what other sites confirm" : "trusted",
                   (long long)largest, site == NULL ? "" : " to ", site == NULL ? "" : site);
    add_check(checks, "clock", !suspect && far_count == 0, detail,
              suspect ? "set the clock of this site by NTP; operations take their time from the "
                        "other sites meanwhile"
              : alone ? "set the clock of this site by NTP: it differs from that of every other"
                      : "set the clock of that site, or of this one, by NTP");
}

static void check_policy(struct chp_agent *agent, json_t *checks)
{
    const struct chp_config *config = agent->policy;
    char detail[DETAIL_BYTES];
    bool commands = config->shell.allow.count > 0;
    bool usable = commands || config->service_count > 0;
    (void)snprintf(detail, sizeof detail, "%zu entries in [shell] allow, %zu services",
                   config->shell.allow.count, config->service_count);
    add_check(checks, "policy", usable, detail,
              "nothing may run at this site: list commands in [shell] allow or services in "
              "[service.NAME]");
}

/* Files, outputs of commands and the mark of the database's life lie in state_dir. */
static void check_disk(struct chp_agent *agent, json_t *checks)
{
    struct statvfs disk;
    char detail[DETAIL_BYTES];
    if (statvfs(agent->config->agent.state_dir, &disk) != 0 || disk.f_blocks == 0) {
        return;
    }
    uint64_t left = (uint64_t)disk.f_bavail * disk.f_frsize;
    unsigned long long percent = (unsigned long long)disk.f_bavail * 100 / disk.f_blocks;
    bool ok = percent >= DISK_FREE_PERCENT || left >= disk_free_enough;
    (void)snprintf(detail, sizeof detail, "%llu MiB free (%llu %%) at %s",
                   (unsigned long long)(left >> 20), percent, agent->config->agent.state_dir);
    add_check(checks, "disk", ok, detail,
              "make room: files of operations and outputs of commands can soon no longer be kept");
}

/* Executions that hold back their resource here, and those of this origin elsewhere. */
static void check_doubt(struct chp_agent *agent, json_t *checks)
{
    struct chp_doubt_view doubts[NAMED_MAX];
    char detail[DETAIL_BYTES] = "";
    size_t len = 0;
    if (agent->engine == NULL) {
        return;
    }
    size_t count = chp_engine_in_doubt(agent->engine, doubts, NAMED_MAX);
    for (size_t i = 0; i < count && i < NAMED_MAX; i++) {
        char id[CHP_UUID_TEXT_BYTES];
        chp_uuid_format(&doubts[i].operation, id);
        len += (size_t)snprintf(detail + len, sizeof detail - len, "%s%s at %s",
                                len == 0 ? "" : ", ", id, doubts[i].site);
        CHP_ASSERT(len < sizeof detail);
    }
    if (count > NAMED_MAX) {
        (void)snprintf(detail + len, sizeof detail - len, " and %zu more", count - NAMED_MAX);
    }
    add_check(checks, "in doubt", count == 0, count == 0 ? "no execution is" : detail,
              "whether the command ran is not known, and its resource waits there: look at the "
              "application, then cheops op resolve ID --site SITE done|failed|rerun");
}

/* Adds names of resources to a detail: diverged ones, or the others. */
static size_t name_resources(const json_t *troubled, bool diverged, char *text, size_t size)
{
    size_t named = 0;
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(troubled, "resources"), i, row)
    {
        bool is_diverged = json_is_string(json_object_get(row, "diverged"));
        if (is_diverged == diverged && named < NAMED_MAX) {
            size_t len = strlen(text);
            const char *id = json_string_value(json_object_get(row, "id"));
            (void)snprintf(text + len, size - len, "%s%s", named == 0 ? "" : ", ",
                           id == NULL ? "" : id);
            named++;
        }
    }
    return named;
}

static void check_resources(const struct chp_doctor_facts *facts, bool diverged, const char *check,
                            const char *advice, json_t *checks)
{
    char detail[RESOURCES_DETAIL_BYTES] = "";
    json_int_t count = json_integer_value(json_object_get(facts->troubled, check));
    if (facts->troubled == NULL) {
        return;
    }
    json_int_t named = (json_int_t)name_resources(facts->troubled, diverged, detail, sizeof detail);
    size_t len = strlen(detail);
    if (count > named) {
        (void)snprintf(detail + len, sizeof detail - len, " and %lld more",
                       (long long)(count - named));
    }
    add_check(checks, check, count == 0, count == 0 ? "no replica is" : detail, advice);
}

static void check_replicas(struct chp_agent *agent, const struct chp_doctor_facts *facts,
                           json_t *checks)
{
    char advice[CHP_SITE_MAX_BYTES + 320];
    (void)snprintf(advice, sizeof advice,
                   "the application here is left as it is: cheops resource show ID says why; then "
                   "cheops resource rebuild ID --site %s, with --from-empty when you have emptied "
                   "it in the application",
                   agent->config->agent.site);
    check_resources(facts, true, "diverged", advice, checks);
    (void)snprintf(advice, sizeof advice,
                   "something failed here that succeeded elsewhere, and is tried again by itself: "
                   "cheops resource history ID says what; put right why it fails, or cheops "
                   "resource rebuild ID --site %s",
                   agent->config->agent.site);
    check_resources(facts, false, "degraded", advice, checks);
}

static void check_dead(const struct chp_doctor_facts *facts, json_t *checks)
{
    char detail[DETAIL_BYTES];
    size_t count = json_array_size(facts->dead);
    if (facts->dead == NULL) {
        return;
    }
    const json_t *first = json_array_get(facts->dead, 0);
    const char *reason = json_string_value(json_object_get(first, "reason"));
    (void)snprintf(detail, sizeof detail, "%zu%s: %.300s", count,
                   count == 1 ? " message could not be processed"
                              : " messages could not be processed, the first",
                   reason == NULL ? "" : reason);
    add_check(checks, "dead letters", count == 0, count == 0 ? "none" : detail,
              "cheops dead list and show say what they are; then cheops dead requeue ID when the "
              "cause is gone, or cheops dead drop ID");
}

static void check_hands(struct chp_agent *agent, json_t *checks)
{
    if (agent->metrics.inbound_held != 0) {
        char detail[DETAIL_BYTES];
        (void)snprintf(detail, sizeof detail,
                       "%.1f MiB of messages are in hand, none are taken from the broker until "
                       "half of them are done",
                       agent->metrics.inbound_bytes / (1 << 20));
        add_check(
            checks, "inbound", false, detail,
            "the database is slow, or dead letters cannot be published: see the checks above");
    }
}

json_t *doctor__check(struct chp_agent *agent, const struct chp_doctor_facts *facts)
{
    json_t *checks = json_array();
    check_broker(agent, checks);
    check_store(agent, checks);
    check_links(agent, facts, checks);
    check_versions(agent, checks);
    check_hands(agent, checks);
    check_doubt(agent, checks);
    check_replicas(agent, facts, checks);
    check_dead(facts, checks);
    check_clock(agent, checks);
    check_disk(agent, checks);
    check_policy(agent, checks);
    return checks;
}
