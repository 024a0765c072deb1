/* SPDX-License-Identifier: AGPL-3.0-only */
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define MINIMAL                                                                                    \
    "[agent]\nsite = Nantes\n[database]\ndsn = dbname=x\n[broker]\nuri = amqp://u:p@127.0.0.1\n"

static int parse(const char *text, struct chp_config *config, struct chp_error *error)
{
    return chp_config_parse(chp_bytes_of(text), "a.conf", "/etc/cheops", config, error);
}

static void minimal_file_gets_the_defaults(void **state)
{
    (void)state;
    struct chp_config config;
    struct chp_error error = {0};
    assert_int_equal(parse(MINIMAL, &config, &error), 0);
    assert_string_equal(config.agent.site, "Nantes");
    assert_string_equal(config.agent.state_dir, "/var/lib/cheops");
    assert_int_equal(config.agent.log_level, CHP_LOG_INFO);
    assert_int_equal(config.agent.down_after_ms, 5000);
    assert_int_equal(config.agent.beat_interval_ms, 1000);
    assert_int_equal(config.agent.max_skew_ms, 60000);
    assert_int_equal(config.agent.resources_max, 4096);
    assert_true(config.agent.migrate);
    assert_string_equal(config.database.dsn, "dbname=x");
    assert_string_equal(config.broker.uri, "amqp://u:p@127.0.0.1");
    assert_null(config.broker.ca_file);
    assert_int_equal(config.broker.prefetch, 200);
    assert_int_equal(config.broker.heartbeat_s, 5);
    assert_string_equal(config.http.listen, "127.0.0.1:8440");
    assert_null(config.http.socket);
    assert_null(config.http.token_file);
    assert_int_equal(config.http.connections_max, 1024);
    assert_int_equal(config.http.body_max_bytes, 1 << 30);
    assert_int_equal(config.shell.allow.count, 0);
    assert_null(config.shell.user);
    assert_int_equal(config.shell.concurrency_max, 8);
    assert_int_equal(config.rest.concurrency_max, 32);
    assert_int_equal(config.files.blob_max_bytes, 1 << 30);
    assert_int_equal(config.site_count, 0);
    assert_int_equal(config.service_count, 0);
    chp_config_deinit(&config);
    chp_config_deinit(&config);
}

static const char every_type[] = "# comment = yes\r\n"
                                 "; another\r\n"
                                 "[agent]\r\n"
                                 "  site = Saint Malo  \r\n"
                                 "state_dir=state\n"
                                 "log_level =\tdebug\n"
                                 "down_after_ms = 2m\n"
                                 "beat_interval_ms = 250\n"
                                 "migrate = no\n"
                                 "\n"
                                 "[ http ]\n"
                                 "listen = [::1]:0\n"
                                 "socket =\n"
                                 "socket_uids = 0,1000 , 4294967294\n"
                                 "token_file = /abs/tokens\n"
                                 "hosts = a.example, b:80\n"
                                 "body_max_bytes = 64k\n"
                                 "json_max_bytes = 65536\n"
                                 "[shell]\n"
                                 "allow = *\n"
                                 "environment = A=b c=d, _X=\n"
                                 "[database]\n"
                                 "dsn = host=/run password='a # b ; c'\n"
                                 "[broker]\n"
                                 "uri = amqps://u:p#@[::1]/\n"
                                 "ca_file = ../ca.pem\n"
                                 "heartbeat_s = 1m\n"
                                 "[site.Rennes]\n"
                                 "[site.Besançon.est]\n"
                                 "link = local\n"
                                 "[service.inventory]\n"
                                 "url = http://127.0.0.1:9000/api\n"
                                 "success = 200-299,404,409-410";

static void every_type_of_value_is_read(void **state)
{
    (void)state;
    struct chp_config config;
    struct chp_error error = {0};
    if (parse(every_type, &config, &error) != 0) {
        fail_msg("%s", error.text);
    }
    assert_string_equal(config.agent.site, "Saint Malo");
    assert_string_equal(config.agent.state_dir, "/etc/cheops/state");
    assert_int_equal(config.agent.log_level, CHP_LOG_DEBUG);
    assert_int_equal(config.agent.down_after_ms, 120000);
    assert_int_equal(config.agent.beat_interval_ms, 250);
    assert_false(config.agent.migrate);
    assert_string_equal(config.http.listen, "[::1]:0");
    assert_null(config.http.socket);
    assert_int_equal(config.http.socket_uids.count, 3);
    assert_int_equal(config.http.socket_uid_numbers[1], 1000);
    assert_int_equal(config.http.socket_uid_numbers[2], 4294967294U);
    assert_string_equal(config.http.token_file, "/abs/tokens");
    assert_int_equal(config.http.hosts.count, 2);
    assert_string_equal(config.http.hosts.items[1], "b:80");
    assert_int_equal(config.http.body_max_bytes, 65536);
    assert_int_equal(config.http.json_max_bytes, 65536);
    assert_string_equal(config.shell.allow.items[0], "*");
    assert_int_equal(config.shell.environment.count, 2);
    assert_string_equal(config.shell.environment.items[0], "A=b c=d");
    assert_string_equal(config.database.dsn, "host=/run password='a # b ; c'");
    assert_string_equal(config.broker.ca_file, "/etc/cheops/../ca.pem");
    assert_int_equal(config.broker.heartbeat_s, 60);
    assert_int_equal(config.site_count, 2);
    assert_string_equal(config.sites[0].name, "Rennes");
    assert_int_equal(config.sites[0].link, CHP_CONFIG_LINK_SHOVEL);
    assert_string_equal(config.sites[1].name, "Besançon.est");
    assert_int_equal(config.sites[1].link, CHP_CONFIG_LINK_LOCAL);
    assert_int_equal(config.service_count, 1);
    assert_string_equal(config.services[0].success, "200-299,404,409-410");
    assert_null(config.services[0].ca_file);
    chp_config_deinit(&config);
}

struct refused_case {
    const char
        *text; /* behind MINIMAL, whose last line is 6; or the whole when it starts with '!' */
    const char *sentence;
};

static const struct refused_case refused[] = {
    {"!", "a.conf: site of [agent] is missing; set it, as in: site = Nantes"},
    {"![agent]\nsite=A\n[database]\ndsn=x\n", "a.conf: uri of [broker] is missing"},
    {"![agent]\nsite=A\n[broker]\nuri=amqp://x\n", "a.conf: dsn of [database] is missing"},
    {"!site = A\n", "a.conf:1: site stands before the first section, as [agent]"},
    {"![agent]\nsite = a/b\n", "a.conf:2: site of [agent] is \"a/b\": allowed is a site's name"},
    {"![agent]\nsite = *\n", "a.conf:2: site of [agent] is \"*\": allowed is a site's name"},
    {"![agent]\n\nsite =\n", "a.conf:3: site of [agent] is \"\": allowed is a value that is not"},
    {"![agent]\nsite\n", "a.conf:2: a line must be option = value, [section], or a comment"},
    {"![agent]\n= Nantes\n", "a.conf:2: a line must be option = value"},
    {"![agent]\nsite: Nantes\n", "a.conf:2: a line must be option = value"},
    {"![agent\n", "a.conf:1: a section must be [name], alone on its line"},
    {"![agent] # home\n", "a.conf:1: a section must be [name], alone on its line"},
    {"![agnet]\n",
     "a.conf:1: unknown section [agnet], did you mean [agent]?: sections are [agent], "
     "[database], [broker], [http], [shell], [rest], [files], [site.NAME], "
     "[service.NAME]"},
    {"![]\n", "a.conf:1: unknown section []: sections are"},
    {"![agent]\nsiet = A\n", "a.conf:2: unknown option siet in [agent], did you mean site?: its "
                             "options are site, state_dir, log_level"},
    {"![agent]\nlisten = A\n", "a.conf:2: unknown option listen in [agent], it belongs to [http]"},
    {"![agent]\nurl = A\n",
     "a.conf:2: unknown option url in [agent], it belongs to [service.NAME]"},
    {"![agent]\nqqqqqqqqq = A\n", "a.conf:2: unknown option qqqqqqqqq in [agent]: its options are"},
    {"![agent]\nsite = A\nmigrate = no\nsite = A\n",
     "a.conf:4: site of [agent] is given already, in line 2; an option stands once"},
    {"[agent]\nsite = Paris\n", "a.conf:8: site of [agent] is given already, in line 2"},
    {"[agent]\n[site.B]\nlink = local\n[agent]\nno_such = 1\n",
     "a.conf:11: unknown option no_such in [agent]"},
    {"[site.B]\nlink = local\n[site.C]\nlink = local\nlink = local\n",
     "a.conf:11: link of [site.C] is given already, in line 10"},
    {"[site.A]\n[site.B]\n[ site.A ]\n", "a.conf:9: [site.A] is there already, in line 7"},
    {"[service.A]\nurl=http://x\n[service.A]\n",
     "a.conf:9: [service.A] is there already, in line 7"},
    {"[site.Nantes]\n", "a.conf:7: [site.Nantes] is this site itself"},
    {"[site.]\n", "a.conf:7: site name \"\" is not allowed"},
    {"[site.a*]\n", "a.conf:7: site name \"a*\" is not allowed"},
    {"[site]\n", "a.conf:7: unknown section [site]"},
    {"[site.A]\nlink = shovle\n",
     "a.conf:8: link of [site.A] is \"shovle\": allowed is shovel, local"},
    {"[site.A]\nurl = x\n",
     "a.conf:8: unknown option url in [site.A], it belongs to [service.NAME]"},
    {"[service.]\n", "a.conf:7: a service's name must have"},
    {"[service.a b]\n", "a.conf:7: a service's name must have"},
    {"[service.a]\n", "a.conf:7: url of [service.a] is missing"},
    {"[service.a]\nurl = ftp://x\n",
     "a.conf:8: url of [service.a] is \"ftp://x\": allowed is http"},
    {"[service.a]\nurl = http://\n", "allowed is http"},
    {"[service.a]\nurl = http:///x\n", "allowed is http"},
    {"[service.a]\nurl = http://x/?a=b\n", "allowed is http"},
    {"[service.a]\nsuccess = 299-200\n",
     "a.conf:8: success of [service.a] is \"299-200\": allowed is "
     "HTTP statuses"},
    {"[service.a]\nsuccess = 200,\n", "allowed is HTTP statuses"},
    {"[service.a]\nsuccess = 20\n", "allowed is HTTP statuses"},
    {"[service.a]\nsuccess = 200-\n", "allowed is HTTP statuses"},
    {"[service.a]\nsuccess = 200 - 299\n", "allowed is HTTP statuses"},
    {"[service.a]\nsuccess = 599-99999999999999999999\n", "allowed is HTTP statuses"},
    {"[http]\nlisten = localhost:80\n",
     "a.conf:8: listen of [http] is \"localhost:80\": allowed is an "
     "address and a port, as 127.0.0.1:8440"},
    {"[http]\nlisten = 127.0.0.1\n", "allowed is an address and a port"},
    {"[http]\nlisten = 127.0.0.1:\n", "allowed is an address and a port"},
    {"[http]\nlisten = 127.0.0.1:65536\n", "allowed is an address and a port"},
    {"[http]\nlisten = 127.0.0.1:+1\n", "allowed is an address and a port"},
    {"[http]\nlisten = ::1:80\n", "allowed is an address and a port"},
    {"[http]\nlisten =\n",
     "a.conf:8: listen of [http] is \"\": allowed is a value that is not empty"},
    {"[http]\nsocket_uids = 1,x\n",
     "a.conf:8: socket_uids of [http] is \"1,x\": allowed is user ids"},
    {"[http]\nsocket_uids = 4294967295\n", "allowed is user ids"},
    {"[http]\nsocket_uids = -1\n", "allowed is user ids"},
    {"[http]\nhosts = a,,b\n", "allowed is a list separated by ',', without empty items"},
    {"[http]\nhosts = a,\n", "allowed is a list separated by ',', without empty items"},
    {"[http]\nhosts = a b\n", "allowed is host names"},
    {"[http]\nconnections_max = 0\n",
     "a.conf:8: connections_max of [http] is \"0\": allowed is a whole "
     "number from 1 to 65536"},
    {"[http]\nconnections_max = 1k\n", "allowed is a whole number from 1 to 65536"},
    {"[http]\nconnections_max = 99999999999999999999999999\n", "allowed is a whole number"},
    {"[http]\nconnections_max = -1\n", "allowed is a whole number"},
    {"[http]\nconnections_max = 1.5\n", "allowed is a whole number"},
    {"[http]\nbody_max_bytes = 1025G\n",
     "allowed is a whole number from 64k to 1024G (bytes, or with "
     "k, M, G)"},
    {"[http]\nbody_max_bytes = 18446744073709551616\n", "allowed is a whole number"},
    {"[http]\nidle_timeout_ms = 100ms\n",
     "allowed is a whole number from 1s to 1h (milliseconds, or "
     "with ms, s, m, h)"},
    {"[http]\nidle_timeout_ms = 1 h\n", "allowed is a whole number from 1s to 1h"},
    {"[http]\nidle_timeout_ms = h\n", "allowed is a whole number from 1s to 1h"},
    {"[http]\nidle_timeout_ms = 60s # a minute\n",
     "a.conf:8: idle_timeout_ms of [http] is \"60s # a "
     "minute\": allowed is a value without ' #'"},
    {"[shell]\nuser = root ; no\n", "allowed is a value without ' #' and ' ;'"},
    {"[shell]\nuser = a:b\n", "allowed is a user's name"},
    {"[shell]\nallow = sh cat\n", "allowed is programs without blanks, separated by ','"},
    {"[shell]\npath = /bin:usr\n", "allowed is absolute directories"},
    {"[shell]\npath = /bin:\n", "allowed is absolute directories"},
    {"[shell]\nenvironment = 1A=b\n", "allowed is NAME=value"},
    {"[shell]\nenvironment = A=b, C\n", "allowed is NAME=value"},
    {"[shell]\nenvironment = CHEOPS_SITE=x\n", "allowed is NAME=value"},
    {"[shell]\nenvironment = PATH=/\n", "allowed is NAME=value"},
    {"[files]\n\nblob_max_bytes = 1g\n", "a.conf:9: blob_max_bytes of [files] is \"1g\""},
    {"![broker]\nuri = http://u:secret@x\n", "a.conf:2: uri of [broker] is not valid (not shown): "
                                             "allowed is amqp://user:password@address:port/vhost"},
    {"![broker]\nuri = amqp://u:p@x\nheartbeat_s = 500ms\n",
     "allowed is a whole number from 1s to 1h (seconds"},
    {"![broker]\nprefetch = 65536\n", "allowed is a whole number from 1 to 2000"},
    {"![agent]\nmigrate = true\n",
     "a.conf:2: migrate of [agent] is \"true\": allowed is yes or no"},
    {"![agent]\nlog_level = trace\n", "allowed is debug, info, warn, error"},
    {"![agent]\nsite = \xff\n", "a.conf:2: the line is not UTF-8 text"},
    {"![agent]\nsite = a\x01\n", "a.conf:2: the line has a control character"},
};

static void refuse(const char *text, size_t len, const char *sentence)
{
    struct chp_config config;
    struct chp_error error = {0};
    int code = chp_config_parse(chp_bytes(text, len), "a.conf", "/etc", &config, &error);
    if (code == 0 || strstr(error.text, sentence) == NULL) {
        fail_msg("%.200s: %d \"%s\", not \"%s\"", text, code, error.text, sentence);
    }
    assert_int_equal(code, error.code);
    assert_true(strncmp(error.text, "a.conf:", 7) == 0);
    assert_null(strstr(error.text, "secret"));
    assert_null(config.agent.site);
    chp_config_deinit(&config);
}

static void what_is_wrong_is_refused_with_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct chp_buf text = {0};
        bool whole = refused[i].text[0] == '!';
        chp_buf_printf(&text, "%s%s", whole ? "" : MINIMAL, refused[i].text + (whole ? 1 : 0));
        refuse(chp_buf_text(&text), text.len, refused[i].sentence);
        chp_buf_deinit(&text);
    }
}

static void relations_between_options_are_checked(void **state)
{
    (void)state;
    static const struct refused_case cases[] = {
        {"[agent]\nsite=A\nbeat_interval_ms=3s\n[database]\ndsn=x\n[broker]\nuri=amqp://x\n",
         "a.conf: down_after_ms of [agent] must be at least twice beat_interval_ms"},
        {"[agent]\nsite=A\n[database]\ndsn=x\nretry_min_ms=10s\n[broker]\nuri=amqp://x\n",
         "a.conf: retry_min_ms of [database] must not be greater"},
        {"[agent]\nsite=A\n[database]\ndsn=x\n[broker]\nretry_max_ms=10\nuri=amqp://x\n",
         "a.conf: retry_min_ms of [broker] must not be greater"},
        {"[agent]\nsite=A\n[database]\ndsn=x\n[broker]\nuri=amqps://x\ncert_file=c\n",
         "a.conf: cert_file and key_file of [broker] belong together"},
        {"[agent]\nsite=A\n[database]\ndsn=x\n[broker]\nuri=amqp://x\nca_file=c\n",
         "a.conf: ca_file, cert_file and server_name of [broker] need a uri that begins with "
         "amqps"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        refuse(cases[i].text, strlen(cases[i].text), cases[i].sentence);
    }
}

static void bounds_hold(void **state)
{
    (void)state;
    struct chp_config config;
    struct chp_error error = {0};
    struct chp_buf text = {0};
    chp_buf_add_text(&text, MINIMAL "[shell]\nallow = ");
    while (text.len < CHP_CONFIG_LINE_MAX_BYTES + strlen(MINIMAL)) {
        chp_buf_add_text(&text, "xxxxxxxxxxxxxxxx");
    }
    assert_int_equal(parse(chp_buf_text(&text), &config, &error), 0); /* long, and not cut */
    assert_int_equal(strlen(config.shell.allow.items[0]), text.len - strlen(MINIMAL) - 16);
    chp_config_deinit(&config);
    chp_buf_add_text(&text, "xxxxxxxxxxxxxxxxxx");
    refuse(chp_buf_text(&text), text.len, "a.conf:8: the line has 16394 bytes, at most 16384");

    chp_buf_clear(&text);
    chp_buf_add_text(&text, MINIMAL "[shell]\nallow = a");
    for (int i = 1; i < CHP_CONFIG_LIST_MAX; i++) {
        chp_buf_add_text(&text, ",b");
    }
    assert_int_equal(parse(chp_buf_text(&text), &config, &error), 0);
    assert_int_equal(config.shell.allow.count, CHP_CONFIG_LIST_MAX);
    chp_config_deinit(&config);
    chp_buf_add_text(&text, ",b");
    refuse(chp_buf_text(&text), text.len, "allowed is a list of at most 256 items");

    chp_buf_clear(&text);
    chp_buf_add_text(&text, MINIMAL);
    for (int i = 1; i < CHP_SITES_MAX; i++) {
        chp_buf_printf(&text, "[site.S%d]\n", i);
    }
    assert_int_equal(parse(chp_buf_text(&text), &config, &error), 0);
    assert_int_equal(config.site_count, CHP_SITES_MAX - 1);
    chp_config_deinit(&config);
    chp_buf_add_text(&text, "[site.last]\n");
    refuse(chp_buf_text(&text), text.len, "a.conf:262: more than 255 other sites");

    chp_buf_clear(&text);
    chp_buf_add_text(&text, MINIMAL);
    for (int i = 0; i <= CHP_CONFIG_SERVICES_MAX; i++) {
        chp_buf_printf(&text, "[service.S%d]\nurl=http://x\n", i);
    }
    refuse(chp_buf_text(&text), text.len, "a.conf:135: more than 64 services");

    chp_buf_clear(&text);
    chp_buf_add_text(&text, MINIMAL);
    while (text.len <= CHP_CONFIG_FILE_MAX_BYTES) {
        chp_buf_add_text(&text, "# a comment of some length\n");
    }
    refuse(chp_buf_text(&text), text.len, "a.conf: more than 1048576 bytes");
    chp_buf_deinit(&text);
    refuse("[agent]\nsite = a\0b\n", 19, "a.conf:2: the line is not UTF-8 text");
}

static void diff_tells_reload_from_restart(void **state)
{
    (void)state;
    struct chp_config before;
    struct chp_config after;
    struct chp_error error = {0};
    struct chp_arena arena = {0};
    struct chp_config_diff diff;
    assert_int_equal(parse(MINIMAL "[http]\nhosts = a\n[shell]\nallow = a, b\n[site.B]\n[site.C]\n"
                                   "[service.x]\nurl = http://x\n[service.y]\nurl = http://y\n",
                           &before, &error),
                     0);
    assert_int_equal(parse(MINIMAL "[http]\nlisten = none\nhosts = a\n[shell]\nallow = a, c\n"
                                   "user = u\n[site.C]\nlink = local\n[site.D]\n"
                                   "[service.y]\nurl = http://z\n[service.w]\nurl = http://w\n",
                           &after, &error),
                     0);
    chp_config_diff(&before, &after, &arena, &diff);
    static const char *const reload[] = {"[shell] allow", "[service.x]", "[service.y] url",
                                         "[service.w]"};
    static const char *const restart[] = {"[http] listen", "[shell] user", "[site.B]",
                                          "[site.C] link", "[site.D]"};
    assert_int_equal(diff.reload_count, COUNT(reload));
    for (size_t i = 0; i < COUNT(reload); i++) {
        assert_string_equal(diff.reload[i], reload[i]);
    }
    assert_int_equal(diff.restart_count, COUNT(restart));
    for (size_t i = 0; i < COUNT(restart); i++) {
        assert_string_equal(diff.restart[i], restart[i]);
    }
    chp_config_diff(&before, &before, &arena, &diff);
    assert_int_equal(diff.reload_count + diff.restart_count, 0);
    chp_arena_deinit(&arena);
    chp_config_deinit(&before);
    chp_config_deinit(&after);
}

static char *sample(size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    assert_non_null(out);
    chp_config_print_help(out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void sample_is_the_committed_file_and_is_valid(void **state)
{
    (void)state;
    size_t len = 0;
    char *text = sample(&len);
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/agent/dist/agent.conf", getenv("CHEOPS_SOURCE_DIR"));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *committed = chp_alloc(len + 2);
    size_t committed_len = fread(committed, 1, len + 1, file);
    (void)fclose(file);
    if (committed_len != len || memcmp(committed, text, len) != 0) {
        fail_msg("%s is not what `cheops-agent --print-config` prints: write it anew", path);
    }
    struct chp_config config;
    struct chp_error error = {0};
    assert_int_equal(chp_config_load(path, &config, &error), 0);
    assert_string_equal(config.agent.site, "Nantes");
    chp_config_deinit(&config);
    free(committed);
    free(text);
}

/* Every commented option is valid once its '#' is gone, and the defaults are what the comment says.
 */
static void sample_with_everything_taken_in_is_valid(void **state)
{
    (void)state;
    size_t len = 0;
    char *text = sample(&len);
    struct chp_buf taken_in = {0};
    struct chp_buf needed = {0};
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        assert_true(strlen(line) <= 100);
        bool comment = line[0] == '#';
        chp_buf_printf(&taken_in, "%s\n", comment && line[1] != ' ' ? line + 1 : line);
        chp_buf_printf(&needed, "%s\n", comment ? "" : line);
    }
    /* amqps options and amqp:// exclude each other: take the TLS form of the example. */
    const char *all_text = chp_buf_text(&taken_in);
    const char *uri = strstr(all_text, "amqp://cheops");
    assert_non_null(uri);
    struct chp_buf tls = {0};
    chp_buf_add(&tls, all_text, (size_t)(uri - all_text));
    chp_buf_printf(&tls, "amqps%s", uri + 4);
    struct chp_config all;
    struct chp_config defaults;
    struct chp_error error = {0};
    if (parse(chp_buf_text(&tls), &all, &error) != 0) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(parse(chp_buf_text(&needed), &defaults, &error), 0);
    assert_int_equal(all.agent.down_after_ms, defaults.agent.down_after_ms);
    assert_int_equal(all.http.body_max_bytes, defaults.http.body_max_bytes);
    assert_string_equal(all.shell.path, defaults.shell.path);
    assert_int_equal(all.site_count, 1);
    assert_int_equal(all.service_count, 1);
    chp_config_deinit(&all);
    chp_config_deinit(&defaults);
    chp_buf_deinit(&taken_in);
    chp_buf_deinit(&needed);
    chp_buf_deinit(&tls);
    free(text);
}

static void files_are_read_from_where_they_are(void **state)
{
    (void)state;
    char directory[] = "/tmp/cheops-test-config.XXXXXX";
    char path[64];
    struct chp_config config;
    struct chp_error error = {0};
    assert_non_null(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/agent.conf", directory);
    assert_int_equal(chp_config_load(path, &config, &error), CHP_ENOTFOUND);
    assert_non_null(strstr(error.text, path));
    assert_int_equal(chp_config_load(directory, &config, &error), CHP_EIO);
    assert_non_null(strstr(error.text, "not a regular file"));
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(MINIMAL "[http]\ntoken_file = tokens\n", file);
    (void)fclose(file);
    assert_int_equal(chp_config_load(path, &config, &error), 0);
    char expected[64];
    (void)snprintf(expected, sizeof expected, "%s/tokens", directory);
    assert_string_equal(config.http.token_file, expected);
    chp_config_deinit(&config);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(minimal_file_gets_the_defaults),
        cmocka_unit_test(every_type_of_value_is_read),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_line),
        cmocka_unit_test(relations_between_options_are_checked),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(diff_tells_reload_from_restart),
        cmocka_unit_test(sample_is_the_committed_file_and_is_valid),
        cmocka_unit_test(sample_with_everything_taken_in_is_valid),
        cmocka_unit_test(files_are_read_from_where_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
