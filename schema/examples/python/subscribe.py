#!/usr/bin/python3
# SPDX-License-Identifier: AGPL-3.0-only
"""Follow a site's events without losing or repeating one, whatever stops and starts meanwhile: one JSON object a line.

    subscribe.py --amqp amqp://user:password@127.0.0.1:5672/ --api http://user:token@127.0.0.1:8080 --site Nantes \
        --state last-event

Needs python3-pika. Events are numbered without gaps. The number of the last one that was printed lies in the file
--state; at the start, and when a number skips some, what is missing is read from the HTTP door. A durable queue
(--queue) keeps events while nobody follows, so that usually little is missing.
"""
import argparse
import base64
import json
import os
import random
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pika


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--amqp", default=os.environ.get("CHEOPS_AMQP"), help="URI of the broker (or CHEOPS_AMQP)")
    parser.add_argument("--api", default=os.environ.get("CHEOPS_API"), help="URL of the HTTP door (or CHEOPS_API)")
    parser.add_argument("--site", default=os.environ.get("CHEOPS_SITE"), help="the site (or CHEOPS_SITE)")
    parser.add_argument("--state", default="last-event", help="file that keeps the last number")
    parser.add_argument("--queue", default="events-subscriber", help="one for each subscriber")
    parser.add_argument("--count", type=int, help="end after so many events")
    args = parser.parse_args()
    if not args.amqp or not args.api or not args.site:
        parser.error("--amqp, --api and --site are needed")
    return args


class Subscriber:
    def __init__(self, args):
        self.args = args
        self.todo = args.count
        try:
            with open(args.state, encoding="ascii") as file:
                self.last = int(file.read())
        except FileNotFoundError:
            self.last = 0

    def finished(self):
        return self.todo == 0

    def handle(self, event):
        """What a program would do with an event; then the number is kept, so that it is done at least once."""
        print(json.dumps(event), flush=True)
        self.last = event["number"]
        with open(self.args.state + ".new", "w", encoding="ascii") as file:
            file.write(str(self.last))
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.args.state + ".new", self.args.state)
        if self.todo is not None:
            self.todo -= 1

    @staticmethod
    def page(url, secret):
        request = urllib.request.Request(url, headers={"Authorization": "Basic " + secret})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)["events"]

    def replay(self):
        """Reads everything behind the last number from the HTTP door."""
        url = urllib.parse.urlsplit(self.args.api)
        user_info, _, host = url.netloc.rpartition("@")
        secret = base64.b64encode(urllib.parse.unquote(user_info).encode()).decode()
        while not self.finished():
            pages = f"{url.scheme}://{host}/v1/events?limit=500"
            try:
                events = self.page(f"{pages}&after={self.last}", secret)
            except urllib.error.HTTPError as error:
                if error.code != 410:
                    raise
                print(json.load(error)["error"], file=sys.stderr)  # they are lost to us: a program might look at all anew
                events = self.page(pages, secret)
            if not events:
                return
            for event in events:
                if not self.finished():
                    self.handle(event)

    def on_message(self, channel, method, _properties, body):
        event = json.loads(body)
        if event["number"] > self.last + 1:
            self.replay()
        if event["number"] == self.last + 1 and not self.finished():
            self.handle(event)
        channel.basic_ack(method.delivery_tag)  # only now: otherwise it comes again
        if self.finished():
            channel.stop_consuming()

    def follow(self):
        connection = pika.BlockingConnection(pika.URLParameters(self.args.amqp))
        channel = connection.channel()
        channel.queue_declare(self.args.queue, durable=True)
        channel.queue_bind(self.args.queue, "cheops.events." + self.args.site, "#")
        channel.basic_qos(prefetch_count=100)
        self.replay()  # after the queue is bound: nothing can fall between
        if not self.finished():
            channel.basic_consume(self.args.queue, self.on_message)
            channel.start_consuming()
        connection.close()


def main():
    subscriber = Subscriber(arguments())
    while not subscriber.finished():
        try:
            subscriber.follow()
        except (pika.exceptions.AMQPError, OSError) as error:  # broker or agent away: OSError has HTTP's errors, too
            pause = random.uniform(0, 4)  # others lost it at the same moment: not back all at once
            print(f"again in {pause:.1f} s: {error!r}", file=sys.stderr)
            time.sleep(pause)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
