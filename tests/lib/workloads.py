# SPDX-License-Identifier: AGPL-3.0-only
"""Workloads for sites that are cut apart: each writes to one resource, knows what its applications have, and, where the rules
leave no doubt, what they must come to.

A test that writes one operation after the other knows their arbitration order: that of writing.
"""
import json

from testbed import SITES

ONE, ANY, KEEP, REVERSE = "take-one", "take-both-any-order", "take-both-keep-order", "take-both-reverse-order"


def matrix(*pairs):
    return {"ResolutionMatrix": [{"Before": before, "After": after, "Result": result} for before, after, result in pairs]}


SET_ADD = matrix(("set", "set", ONE), ("add", "set", ONE), ("set", "add", KEEP), ("add", "add", KEEP))


class Write:
    """One operation: what it asks for, and where it was accepted."""

    def __init__(self, kind, word, command, undo=None, fails=False):
        self.kind, self.word, self.command, self.undo = kind, word, command, undo
        self.fails = fails      # at every member
        self.operation = self.site = None


class Workload:
    """One resource. Subclasses say what is written first (first), what then (step), and what is there (read)."""

    rules = SET_ADD
    late_s = 0          # more than others may take, because of a pause that is not the links'
    may_diverge = False
    exact = True        # expected() is known

    def __init__(self, name, prefix, apps, rng, members=SITES):
        self.name, self.id, self.apps, self.rng, self.members = name, f"{prefix}-{name}", apps, rng, members
        self.writes = []
        self.count = 0

    @property
    def scope(self):
        return " & ".join(self.members)

    def word(self):
        self.count += 1
        return f"{self.name[:1]}{self.count}"

    def write(self, kind, word, command, **options):
        return Write(kind, word, command, **options)

    def accepted(self):
        return [write for write in self.writes if write.operation]

    def counting(self, resets):
        """What counts where one kind replaces all before it, and the rest stays in order."""
        live = [write for write in self.accepted() if not write.fails]
        last = max((index for index, write in enumerate(live) if write.kind in resets), default=0)
        return live[last:]


class File(Workload):
    """set writes a word, add appends one."""

    def first(self):
        return self.set()

    def step(self, _):
        return self.set() if self.rng.random() < 0.3 else self.add()

    def set(self):
        word = self.word()
        return self.write("set", word, f"echo {word} > {self.apps.file(self.id)}")

    def add(self):
        word = self.word()
        return self.write("add", word, f"echo {word} >> {self.apps.file(self.id)}")

    def read(self, site):
        return self.apps.read_file(site, self.id)

    def expected(self):
        return [write.word for write in self.counting({"set"})]


class FileKeepingAdds(File):
    """What was added without knowing of a later set stays, behind it."""

    rules = matrix(("set", "set", ONE), ("set", "add", KEEP), ("add", "add", KEEP))
    exact = False


class FileFailingOnce(File):
    """Each add fails at one site, the first time that it runs there."""

    late_s = 6  # a failure is tried again after five seconds

    def add(self):
        word, site = self.word(), self.rng.choice(self.members)
        tried = self.apps.file(f"{self.id}.{word}")
        return self.write("add", word, f"if [ $CHEOPS_SITE = {site} ] && mkdir {tried} 2>/dev/null; then exit 3; fi; "
                                       f"echo {word} >> {self.apps.file(self.id)}")

    def step(self, number):
        return self.add() if number % 3 == 1 else File.add(self) if number % 3 else self.set()


class FileFailingEverywhere(File):
    """One add fails everywhere, and then one set."""

    exact = False  # what else was made at the place of the set before it was void may have displaced things for good

    def step(self, number):
        if number in (1, 4):
            write = self.add() if number == 1 else self.set()
            write.command, write.fails = "exit 3", True
            return write
        return super().step(number)


class FileCreatedTwice(File):
    """Two sites create the same id: the round asks first() of both."""


class Register(Workload):
    """Redis: set a number, increase it."""

    rules = matrix(("set", "set", ONE), ("incrby", "set", ONE), ("set", "incrby", KEEP), ("incrby", "incrby", ANY))

    def first(self):
        return self.set()

    def step(self, _):
        return self.set() if self.rng.random() < 0.3 else self.incrby()

    def set(self):
        number = self.rng.randrange(1000)
        return self.write("set", number, self.apps.redis_command("set", self.id, str(number)))

    def incrby(self):
        number = self.rng.randrange(1, 1000)
        return self.write("incrby", number, self.apps.redis_command("incrby", self.id, str(number)))

    def read(self, site):
        return self.apps.read_redis(site, self.id)

    def expected(self):
        return str(sum(write.word for write in self.counting({"set"})))


class Counter(Register):
    """Redis: increase only, in any order."""

    rules = matrix(("incrby", "incrby", ANY))

    def first(self):
        return self.incrby()

    def step(self, _):
        return self.incrby()

    def expected(self):
        return str(sum(write.word for write in self.accepted()))


class Document(Workload):
    """A JSON document: create, apply (replaces all), patch (a key; they keep their order)."""

    rules = matrix(("create", "apply", ONE), ("apply", "apply", ONE), ("patch", "apply", ONE), ("create", "patch", KEEP),
                   ("apply", "patch", KEEP), ("patch", "patch", KEEP))
    undo = False

    def first(self):
        return self.write("create", None, self.apps.document(self.id, "create"))

    def step(self, number):
        return self.apply() if number == 0 or self.rng.random() < 0.3 else self.patch()

    def apply(self):
        key, value = self.rng.choice("abc"), self.word()
        return self.write("apply", (key, value), self.apps.document(self.id, "apply", key, value))

    def patch(self):
        key, value = self.rng.choice("abc"), self.word()
        undo = ["sh", "-c", self.apps.document(self.id, "undo", value)] if self.undo else None
        return self.write("patch", (key, value), self.apps.document(self.id, "patch", value, key, value), undo=undo)

    def read(self, site):
        text = "".join(self.apps.read_file(site, self.id))
        return json.loads(text) if text else None

    def expected(self):
        keys, patches = {}, []
        for write in self.counting({"create", "apply"}):
            if write.kind == "patch":
                key, value = write.word
                patches.append([value, key, keys.get(key)])
                keys[key] = value
            elif write.kind == "apply":
                keys = dict([write.word])
        return {"keys": keys, "patches": patches}


class DocumentUndone(Document):
    """No apply: to bring patches into order those in the way are undone."""

    rules = matrix(("create", "patch", KEEP), ("patch", "patch", KEEP))
    undo = True

    def step(self, _):
        return self.patch()


class DocumentWithoutUndo(DocumentUndone):
    """No apply and no undo: a replica with patches in the way says that it is diverged, and a person rebuilds it."""

    undo = False
    may_diverge = True


def workloads(prefix, apps, rng):
    """One of each."""
    left, right = rng.sample(SITES, 2)
    third = next(site for site in SITES if site not in (left, right))
    return [
        File("file", prefix, apps, rng), FileKeepingAdds("keeping", prefix, apps, rng), Register("register", prefix, apps, rng),
        Counter("counter", prefix, apps, rng), Document("document", prefix, apps, rng), DocumentUndone("undone", prefix, apps, rng),
        DocumentWithoutUndo("without-undo", prefix, apps, rng), File("left", prefix, apps, rng, (left, third)),
        File("right", prefix, apps, rng, (third, right)), FileCreatedTwice("twice", prefix, apps, rng),
        FileFailingOnce("fails-once", prefix, apps, rng), FileFailingEverywhere("fails-everywhere", prefix, apps, rng)]

