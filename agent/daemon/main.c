/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * cheops-agent: reads the configuration, wires the parts, runs the loop.
 *
 *     cheops-agent -c FILE           run in the foreground (systemd: Type=notify)
 *     cheops-agent migrate -c FILE   apply the migrations that are missing, and exit
 *     cheops-agent --print-config    the documented sample configuration
 *
 * SIGTERM and SIGINT stop it (running commands go on and are picked up by the next agent), SIGHUP
 * reloads what can change without a restart.
 */
#include "daemon/daemon.h"
#include "daemon/setup.h"

#include "store/pg_store.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: cheops-agent [-c FILE]            run (default /etc/cheops/agent.conf)\n"
    "       cheops-agent migrate [-c FILE]    apply missing migrations to the database, and exit\n"
    "       cheops-agent check [-c FILE]      check the configuration, and exit\n"
    "       cheops-agent --print-config       print the documented sample configuration\n"
    "       cheops-agent --version\n";

static int migrate(const struct chp_config *config)
{
    struct chp_error error = {0};
    unsigned from = 0;
    unsigned to = 0;
    if (chp_pg_migrate(config->database.dsn, &from, &to, &error) != 0) {
        (void)fprintf(stderr, "cheops-agent: migrate: %s\n", error.text);
        return error.code == CHP_EVERSION ? 3 : 1;
    }
    (void)printf("schema version %u%s\n", to, from == to ? ", nothing to do" : "");
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"print-config", no_argument, NULL, 'p'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *path = "/etc/cheops/agent.conf";
    int option;
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            path = optarg;
            break;
        case 'p':
            chp_config_print_help(stdout);
            return 0;
        case 'V':
            (void)printf("cheops-agent %s\n", CHEOPS_VERSION);
            return 0;
        case 'h':
            (void)fputs(usage, stdout);
            return 0;
        default:
            (void)fputs(usage, stderr);
            return 2;
        }
    }
    const char *verb = optind < argc ? argv[optind] : "run";
    if (optind + 1 < argc ||
        (strcmp(verb, "run") != 0 && strcmp(verb, "migrate") != 0 && strcmp(verb, "check") != 0)) {
        (void)fputs(usage, stderr);
        return 2;
    }
    struct chp_config config = {0};
    struct chp_error error = {0};
    if (chp_config_load(path, &config, &error) != 0) {
        (void)fprintf(stderr, "cheops-agent: %s\n", error.text);
        return 2;
    }
    int status;
    if (strcmp(verb, "migrate") == 0) {
        status = migrate(&config);
    } else if (strcmp(verb, "check") == 0) {
        (void)printf("%s: fine\n", path);
        status = 0;
    } else {
        status = setup__run(&config, path, argv[0]);
    }
    chp_config_deinit(&config);
    return status;
}
