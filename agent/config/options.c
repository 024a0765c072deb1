/* SPDX-License-Identifier: AGPL-3.0-only */
/* The table: every section and option of the configuration file with its type, bounds, default and
 * documentation. */
#include "config/internal.h"

#include "base/limits.h"
#include "base/log.h"
#include "wire/item.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static bool starts_with(const char *value, const char *prefix)
{
    return strncmp(value, prefix, strlen(prefix)) == 0;
}

static bool only(const char *value, const char *characters)
{
    return value[strspn(value, characters)] == '\0';
}

static const char *check_site(const char *value)
{
    return chp_site_name_check(value, NULL) == 0 ? NULL
                                                 : "a site's name, 1 to 100 bytes of UTF-8 without "
                                                   "control characters, / \\ \" * # and "
                                                   "blanks at its ends";
}

/* Addresses only: resolving a name would block. */
static const char *check_listen(const char *value)
{
    static const char *const allowed =
        "an address and a port, as 127.0.0.1:8440 or [::1]:8440, or none";
    char address[INET6_ADDRSTRLEN + 2];
    unsigned char parsed[sizeof(struct in6_addr)];
    const char *colon = strrchr(value, ':');
    if (strcmp(value, "none") == 0) {
        return NULL;
    }
    if (colon == NULL || (size_t)(colon - value) >= sizeof address || colon[1] == '\0' ||
        strlen(colon + 1) > 5 || !only(colon + 1, "0123456789") || atoi(colon + 1) > UINT16_MAX) {
        return allowed;
    }
    size_t len = (size_t)(colon - value);
    bool v6 = len > 2 && value[0] == '[' && value[len - 1] == ']';
    memcpy(address, value + (v6 ? 1 : 0), len - (v6 ? 2 : 0));
    address[len - (v6 ? 2 : 0)] = '\0';
    return inet_pton(v6 ? AF_INET6 : AF_INET, address, parsed) == 1 ? NULL : allowed;
}

static const char *check_broker_uri(const char *value)
{
    return starts_with(value, "amqp://") || starts_with(value, "amqps://")
               ? NULL
               : "amqp://user:password@address:port/vhost, or amqps:// for TLS";
}

static const char *check_host(const char *value)
{
    return only(value, ALNUM "-.:[]_") ? NULL : "host names or addresses";
}

static const char *check_uid(const char *value)
{
    bool fits = only(value, "0123456789") && strlen(value) <= 10 &&
                strtoull(value, NULL, 10) < UINT_MAX; /* (uid_t)-1 is nobody's */
    return fits ? NULL : "user ids as numbers";
}

static const char *check_user(const char *value)
{
    return only(value, ALNUM "-_.") && value[0] != '-' && strlen(value) <= 32 ? NULL
                                                                              : "a user's name";
}

static const char *check_program(const char *value)
{
    return strpbrk(value, " \t") == NULL ? NULL : "programs without blanks, separated by ','";
}

static const char *check_search_path(const char *value)
{
    for (const char *at = value; at != NULL; at = strchr(at, ':')) {
        at += *at == ':' ? 1 : 0;
        if (*at != '/') {
            return "absolute directories, separated by ':'";
        }
    }
    return NULL;
}

static const char *check_variable(const char *value)
{
    const char *equals = strchr(value, '=');
    bool named = equals != NULL && equals > value && (*value < '0' || *value > '9') &&
                 strspn(value, ALNUM "_") == (size_t)(equals - value);
    if (!named || starts_with(value, "CHEOPS_") || starts_with(value, "PATH=")) {
        return "NAME=value; CHEOPS_... are the agent's own, and PATH is the option path";
    }
    return NULL;
}

static const char *check_url(const char *value)
{
    size_t scheme = starts_with(value, "http://") ? 7 : starts_with(value, "https://") ? 8 : 0;
    bool valid = scheme > 0 && value[scheme] != '\0' && value[scheme] != '/' &&
                 strpbrk(value, " \t?#") == NULL;
    return valid ? NULL : "http://host:port/prefix or https://..., without ? and #";
}

/* "200-299,409" */
static const char *check_statuses(const char *value)
{
    static const char *const allowed = "HTTP statuses and ranges of them, as 200-299,409";
    for (const char *at = value;; at++) {
        char *end;
        unsigned long first = *at >= '1' && *at <= '5' ? strtoul(at, &end, 10) : 0;
        unsigned long last = first;
        if (first != 0 && *end == '-') {
            last = end[1] >= '1' && end[1] <= '5' ? strtoul(end + 1, &end, 10) : 0;
        }
        if (first < 100 || last > 599 || last < first || (*end != ',' && *end != '\0')) {
            return allowed;
        }
        if (*end == '\0') {
            return NULL;
        }
        at = end;
    }
}

static const struct config__choice log_levels[] = {{"debug", CHP_LOG_DEBUG},
                                                   {"info", CHP_LOG_INFO},
                                                   {"warn", CHP_LOG_WARN},
                                                   {"error", CHP_LOG_ERROR},
                                                   {NULL, 0}};

static const struct config__choice links[] = {
    {"shovel", CHP_CONFIG_LINK_SHOVEL}, {"local", CHP_CONFIG_LINK_LOCAL}, {NULL, 0}};

const struct config__section config__sections[CONFIG__SECTION_COUNT] = {
    [SECTION_AGENT] = {.name = "agent", .doc = "The agent of this site."},
    [SECTION_DATABASE] = {.name = "database", .doc = "The site's PostgreSQL."},
    [SECTION_BROKER] = {.name = "broker", .doc = "The site's RabbitMQ."},
    [SECTION_HTTP] = {.name = "http", .doc = "The door for the command line and HTTP clients."},
    [SECTION_SHELL] = {.name = "shell", .doc = "The driver that runs commands."},
    [SECTION_REST] = {.name = "rest", .doc = "The driver that sends REST requests to services."},
    [SECTION_FILES] = {.name = "files", .doc = "Files that travel with operations."},
    [SECTION_SITE] = {.name = "site.",
                      .named = true,
                      .example = "Rennes",
                      .doc = "One section for every other site, under its name."},
    [SECTION_SERVICE] = {.name = "service.",
                         .named = true,
                         .reloads = true,
                         .example = "inventory",
                         .doc = "One section for every local REST service, under the name that "
                                "requests give it."},
};

enum {
    SECOND_MS = 1000,
    HOUR_MS = 3600 * SECOND_MS,
    MIB = 1024 * 1024,
};
#define TIB ((uint64_t)MIB * MIB)

#define AT(member)         offsetof(struct chp_config, member)
#define SITE_AT(member)    offsetof(struct chp_config_site, member)
#define SERVICE_AT(member) offsetof(struct chp_config_service, member)

const struct config__option config__options[] = {
    {SECTION_AGENT, OPTION_STRING, "site", AT(agent.site), .required = true, .example = "Nantes",
     .check = check_site, .doc = "Name of this site, the same in every site's configuration."},
    {SECTION_AGENT, OPTION_PATH, "state_dir", AT(agent.state_dir), .preset = "/var/lib/cheops",
     .doc = "Directory for what the agent keeps outside the database: files, running commands, the "
            "mark that shows a database that went back in time."},
    {SECTION_AGENT, OPTION_CHOICE, "log_level", AT(agent.log_level), .preset = "info",
     .choices = log_levels, .reloads = true, .doc = "What is logged on standard error."},
    {SECTION_AGENT, OPTION_NUMBER, "down_after_ms", AT(agent.down_after_ms), .preset = "5s",
     .unit = UNIT_MS, .min = 100, .max = HOUR_MS,
     .doc = "A site that was not heard for so long is shown as down; at least twice "
            "beat_interval_ms."},
    {SECTION_AGENT, OPTION_NUMBER, "beat_interval_ms", AT(agent.beat_interval_ms), .preset = "1s",
     .unit = UNIT_MS, .min = 50, .max = HOUR_MS / 2,
     .doc = "How often every other site is told that this one is up."},
    {SECTION_AGENT, OPTION_NUMBER, "max_skew_ms", AT(agent.max_skew_ms), .preset = "60s",
     .unit = UNIT_MS, .min = SECOND_MS, .max = 24 * HOUR_MS,
     .doc = "A wall clock that leads the other sites by more is not trusted for stamps."},
    {SECTION_AGENT, OPTION_NUMBER, "resources_max", AT(agent.resources_max), .preset = "4096",
     .min = 16, .max = 1000000,
     .doc = "Resources held in memory at a time; the others are read "
            "from the database when something happens to them."},
    {SECTION_AGENT, OPTION_NUMBER, "pending_max", AT(agent.pending_max), .preset = "256", .min = 1,
     .max = 65536,
     .doc = "Waiting operations of one resource held in memory at a time; the others wait in the "
            "database."},
    {SECTION_AGENT, OPTION_NUMBER, "operations_kept", AT(agent.operations_kept), .preset = "1000",
     .min = 1, .max = 1000000,
     .doc = "Operations of one resource that are kept at least, for its history. Older ones are "
            "forgotten when no site needs them any more: what they did is replaced by one that "
            "makes the whole state."},
    {SECTION_AGENT, OPTION_BOOL, "migrate", AT(agent.migrate), .preset = "yes",
     .doc = "Whether the agent brings the database's schema up to date when it starts; otherwise "
            "`cheops-agent migrate` does."},

    {SECTION_DATABASE, OPTION_STRING, "dsn", AT(database.dsn), .required = true, .secret = true,
     .example = "host=/run/postgresql dbname=cheops user=cheops",
     .doc = "Connection string or URI of the database; the host is a socket's directory or an "
            "address, not a name."},
    {SECTION_DATABASE, OPTION_NUMBER, "queries_max", AT(database.queries_max), .preset = "256",
     .min = 1, .max = 65536,
     .doc = "Questions of clients that may wait for the database; further ones are told to come "
            "back."},
    {SECTION_DATABASE, OPTION_NUMBER, "retry_min_ms", AT(database.retry_min_ms), .preset = "100ms",
     .unit = UNIT_MS, .min = 10, .max = HOUR_MS,
     .doc = "First pause before a lost database is tried again; it doubles each time."},
    {SECTION_DATABASE, OPTION_NUMBER, "retry_max_ms", AT(database.retry_max_ms), .preset = "5s",
     .unit = UNIT_MS, .min = 10, .max = HOUR_MS, .doc = "Longest such pause."},
    /* RabbitMQ waits 30 minutes for an acknowledgement. */
    {SECTION_DATABASE, OPTION_NUMBER, "requeue_after_ms", AT(database.requeue_after_ms),
     .preset = "60s", .unit = UNIT_MS, .min = 100, .max = HOUR_MS / 4,
     .doc = "When the database has been away for so long, messages that were taken from the broker "
            "go back to their queues, and none are taken until it is back."},
    {SECTION_DATABASE, OPTION_NUMBER, "events_kept_ms", AT(database.events_kept_ms),
     .preset = "720h", .unit = UNIT_MS, .min = HOUR_MS, .max = 10LL * 365 * 24 * HOUR_MS,
     .doc = "Events that were published are kept for so long, for those who read them from a "
            "number on."},

    {SECTION_BROKER, OPTION_STRING, "uri", AT(broker.uri), .required = true, .secret = true,
     .example = "amqp://cheops:password@127.0.0.1:5672/", .check = check_broker_uri,
     .doc = "The broker's URI; the host is an address or localhost. amqps:// is TLS."},
    {SECTION_BROKER, OPTION_PATH, "ca_file", AT(broker.ca_file), .example = "/etc/cheops/ca.pem",
     .doc = "amqps: the authority that the broker's certificate must come from; the system's if "
            "not set."},
    {SECTION_BROKER, OPTION_PATH, "cert_file", AT(broker.cert_file),
     .example = "/etc/cheops/agent.pem", .doc = "amqps: the agent's own certificate."},
    {SECTION_BROKER, OPTION_PATH, "key_file", AT(broker.key_file),
     .example = "/etc/cheops/agent.key", .doc = "amqps: the key of cert_file."},
    {SECTION_BROKER, OPTION_STRING, "server_name", AT(broker.server_name),
     .example = "broker.nantes.example", .check = check_host,
     .doc = "amqps: the name that the broker's certificate must have; the URI's host if not set."},
    /* A consumer that prefetches holds that much when the database is slow: 200 messages are 200
     * MiB if each has CHP_MESSAGE_MAX_BYTES, and 25 MiB at the size where senders close them
     * (CHP_MESSAGE_CLOSE_BYTES), yet enough to fill every transaction: one message may carry 256
     * operations. */
    {SECTION_BROKER, OPTION_NUMBER, "prefetch", AT(broker.prefetch), .preset = "200", .min = 1,
     .max = 2000,
     .doc = "Messages of one queue that the broker sends ahead of their acknowledgement; each may "
            "have 1 MiB."},
    {SECTION_BROKER, OPTION_NUMBER, "heartbeat_s", AT(broker.heartbeat_s), .preset = "5s",
     .unit = UNIT_S, .min = 1, .max = 3600,
     .doc = "A broker that was silent for twice as long is lost."},
    {SECTION_BROKER, OPTION_NUMBER, "retry_min_ms", AT(broker.retry_min_ms), .preset = "100ms",
     .unit = UNIT_MS, .min = 10, .max = HOUR_MS,
     .doc = "First pause before a lost broker is tried again; it doubles each time."},
    {SECTION_BROKER, OPTION_NUMBER, "retry_max_ms", AT(broker.retry_max_ms), .preset = "5s",
     .unit = UNIT_MS, .min = 10, .max = HOUR_MS, .doc = "Longest such pause."},
    {SECTION_BROKER, OPTION_NUMBER, "output_max_bytes", AT(broker.output_max_bytes), .preset = "4M",
     .unit = UNIT_BYTES, .min = 2 * CHP_MESSAGE_MAX_BYTES, .max = 1024 * MIB,
     .doc = "Bytes that may wait to be sent to the broker before publishing pauses."},
    {SECTION_BROKER, OPTION_NUMBER, "unconfirmed_max", AT(broker.unconfirmed_max), .preset = "4096",
     .min = 1, .max = 65535,
     .doc = "Messages that may wait for the broker's confirmation before publishing pauses."},

    {SECTION_HTTP, OPTION_STRING, "listen", AT(http.listen), .preset = "127.0.0.1:8440",
     .check = check_listen, .doc = "Address and port, or none."},
    {SECTION_HTTP, OPTION_PATH, "socket", AT(http.socket), .example = "/run/cheops/agent.sock",
     .doc = "Unix socket; root and the agent's own user need no token there."},
    {SECTION_HTTP, OPTION_LIST, "socket_uids", AT(http.socket_uids), .example = "1000, 1001",
     .check = check_uid, .reloads = true, .doc = "Further users who may use the unix socket."},
    {SECTION_HTTP, OPTION_PATH, "token_file", AT(http.token_file), .example = "tokens",
     .reloads = true,
     .doc =
         "Lines principal:token, mode 0600; read again on reload. Without it only the unix socket "
         "is of use."},
    {SECTION_HTTP, OPTION_LIST, "hosts", AT(http.hosts), .example = "cheops.nantes.example",
     .check = check_host, .reloads = true,
     .doc = "Values of the Host header that are accepted besides loopback names and the listen "
            "address."},
    {SECTION_HTTP, OPTION_NUMBER, "connections_max", AT(http.connections_max), .preset = "1024",
     .min = 1, .max = 65536, .doc = "Connections open at a time."},
    {SECTION_HTTP, OPTION_NUMBER, "body_max_bytes", AT(http.body_max_bytes), .preset = "1G",
     .unit = UNIT_BYTES, .min = 64 * 1024, .max = TIB,
     .doc = "Size of an uploaded file or form; it goes to disk as it comes."},
    {SECTION_HTTP, OPTION_NUMBER, "json_max_bytes", AT(http.json_max_bytes), .preset = "1M",
     .unit = UNIT_BYTES, .min = 64 * 1024, .max = 16 * MIB,
     .doc = "Size of a JSON body; it is held in memory."},
    {SECTION_HTTP, OPTION_NUMBER, "idle_timeout_ms", AT(http.idle_timeout_ms), .preset = "60s",
     .unit = UNIT_MS, .min = SECOND_MS, .max = HOUR_MS,
     .doc = "A connection on which nothing moves for so long is closed."},

    {SECTION_SHELL, OPTION_LIST, "allow", AT(shell.allow), .example = "kubectl, /usr/bin/openstack",
     .check = check_program, .reloads = true,
     .doc = "Programs that operations may run, as they write them; * for any. Nothing runs until "
            "this is set."},
    {SECTION_SHELL, OPTION_STRING, "user", AT(shell.user), .example = "cheops-run",
     .check = check_user, .doc = "User that commands run as; the agent's own if not set."},
    {SECTION_SHELL, OPTION_STRING, "path", AT(shell.path), .preset = "/usr/local/bin:/usr/bin:/bin",
     .check = check_search_path, .reloads = true, .doc = "PATH of commands."},
    {SECTION_SHELL, OPTION_LIST, "environment", AT(shell.environment),
     .example = "KUBECONFIG=/etc/kubernetes/admin.conf, LANG=C.UTF-8", .check = check_variable,
     .reloads = true, .doc = "Further variables of commands, NAME=value."},
    {SECTION_SHELL, OPTION_NUMBER, "concurrency_max", AT(shell.concurrency_max), .preset = "8",
     .min = 1, .max = 1024, .reloads = true, .doc = "Commands that run at a time."},
    {SECTION_SHELL, OPTION_NUMBER, "memory_max_bytes", AT(shell.memory_max_bytes), .preset = "0",
     .unit = UNIT_BYTES, .min = 0, .max = TIB,
     .doc = "Address space of each process of a command; 0 for no limit."},
    {SECTION_SHELL, OPTION_NUMBER, "processes_max", AT(shell.processes_max), .preset = "0",
     .min = 0, .max = 1000000,
     .doc = "Processes that the user of commands may have; 0 for no limit."},
    {SECTION_SHELL, OPTION_PATH, "runner", AT(shell.runner), .example = "/usr/bin/cheops-runner",
     .doc = "The program that watches over a command; cheops-runner beside the agent's own program "
            "if not set."},

    {SECTION_REST, OPTION_NUMBER, "concurrency_max", AT(rest.concurrency_max), .preset = "32",
     .min = 1, .max = 1024, .reloads = true, .doc = "Requests in flight at a time."},
    {SECTION_REST, OPTION_NUMBER, "connect_timeout_ms", AT(rest.connect_timeout_ms), .preset = "5s",
     .unit = UNIT_MS, .min = 10, .max = HOUR_MS,
     .doc = "How long a connection to a service may take."},

    {SECTION_FILES, OPTION_NUMBER, "blob_max_bytes", AT(files.blob_max_bytes), .preset = "1G",
     .unit = UNIT_BYTES, .min = 64 * 1024, .max = TIB, .doc = "Size of one file."},
    {SECTION_FILES, OPTION_NUMBER, "fetch_timeout_ms", AT(files.fetch_timeout_ms), .preset = "10s",
     .unit = UNIT_MS, .min = 100, .max = HOUR_MS,
     .doc = "When no piece of a file arrived for so long it is asked for again, of another site if "
            "there is one."},

    {SECTION_SITE, OPTION_CHOICE, "link", SITE_AT(link), .preset = "shovel", .choices = links,
     .doc = "shovel: the site has a broker of its own; local: it shares this site's broker."},

    {SECTION_SERVICE, OPTION_STRING, "url", SERVICE_AT(url), .required = true, .reloads = true,
     .example = "http://127.0.0.1:9000/api", .check = check_url,
     .doc = "What the paths of requests are relative to."},
    {SECTION_SERVICE, OPTION_STRING, "success", SERVICE_AT(success), .preset = "200-299",
     .check = check_statuses, .reloads = true,
     .doc = "Statuses that mean that a request succeeded."},
    {SECTION_SERVICE, OPTION_PATH, "ca_file", SERVICE_AT(ca_file), .reloads = true,
     .example = "/etc/cheops/services-ca.pem",
     .doc = "https: the authority that the service's certificate must come from; the system's if "
            "not set."},
};
const size_t config__option_count = sizeof config__options / sizeof config__options[0];
