"""What this backend measures, for Prometheus. Each app has a registry of its own.

    tallystick_http_requests_total{method,route,status}   answers given
    tallystick_http_request_seconds{method,route}          how long they took
    tallystick_streams_open                                event streams open now
    tallystick_tasks{source,state}                         tasks: `chain` as the contract has them,
                                                           `work` as dispatch has them
    tallystick_orders                                      signed orders taken
    tallystick_leases{state}                               live leases
    tallystick_providers_online                            providers heard of lately
    tallystick_index_block / tallystick_chain_head         where the index and the chain stand
    tallystick_index_lag_blocks                            the difference
    tallystick_books_block                                 where rows and contracts were compared
    tallystick_books_differences                           rows and sums that differed; 0 is right
    tallystick_part_up{part}                               1 while a supervised part runs
    tallystick_part_restarts_total{part}                   how often it had to be started again
    tallystick_calls_total{state}                          calls ended
    tallystick_calls_failed_total{reason}                  of those that failed, why
    tallystick_call_seconds{state}                         from a call's arrival to its end
    tallystick_calls_open                                  calls under way now
    tallystick_call_journal_transactions                   group commits, and
    tallystick_call_journal_entries                        what they wrote, since the gateway began

Routes are templates (`/v1/tasks/{task_id}`), so no caller can grow the number of series.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tallystick_backend.store.repositories.views import Figures


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._served: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._ended: dict[str, tuple[Counter, Histogram]] = {}
        self._requests = Counter(
            "tallystick_http_requests",
            "Answers given.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tallystick_http_request_seconds",
            "Time from the request to the end of its answer.",
            ("method", "route"),
            registry=self.registry,
        )
        self._streams = self._gauge("streams_open", "Event streams open now.")
        self._tasks = self._gauge("tasks", "Tasks by state.", "source", "state")
        self._orders = self._gauge("orders", "Signed orders taken.")
        self._leases = self._gauge("leases", "Live leases by state.", "state")
        self._providers = self._gauge("providers_online", "Providers heard of lately.")
        self._block = self._gauge("index_block", "Last block indexed.")
        self._head = self._gauge("chain_head", "Newest block the node told of.")
        self._lag = self._gauge("index_lag_blocks", "Blocks the index is behind the node.")
        self._books_block = self._gauge(
            "books_block", "Block at which the rows were last held against the contracts."
        )
        self._books_differences = self._gauge(
            "books_differences", "Rows and sums that differ from the contracts."
        )
        self._up = self._gauge("part_up", "1 while a supervised part runs.", "part")
        self._restarts = Counter(
            "tallystick_part_restarts",
            "How often a supervised part had to be started again.",
            ("part",),
            registry=self.registry,
        )

        self._calls = Counter(
            "tallystick_calls", "Calls ended, by state.", ("state",), registry=self.registry
        )
        self._calls_failed = Counter(
            "tallystick_calls_failed", "Calls that failed.", ("reason",), registry=self.registry
        )
        self._call_seconds = Histogram(
            "tallystick_call_seconds",
            "Time from a call's arrival to its end.",
            ("state",),
            registry=self.registry,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600),
        )
        self._calls_open = self._gauge("calls_open", "Calls under way now.")
        self._journal_transactions = self._gauge(
            "call_journal_transactions", "Group commits since the gateway began."
        )
        self._journal_entries = self._gauge(
            "call_journal_entries", "Entries in them since the gateway began."
        )

    def call_ended(self, state: str, reason: str, seconds: float, _charge: int) -> None:
        """`reason` is the name of an error's class, so there are few."""
        ended = self._ended.get(state)
        if ended is None:
            ended = self._ended[state] = self._calls.labels(state), self._call_seconds.labels(state)
        ended[0].inc()
        ended[1].observe(seconds)
        if reason:
            self._calls_failed.labels(reason).inc()

    def gateway_stands(self, calls_open: int, transactions: int, entries: int) -> None:
        self._calls_open.set(calls_open)
        self._journal_transactions.set(transactions)
        self._journal_entries.set(entries)

    def request_served(self, method: str, route: str, status: int, seconds: float) -> None:
        name = (method, route, status)
        served = self._served.get(name)
        if served is None:
            # Few: `route` is a template. Looking a child up costs more than counting.
            served = self._served[name] = (
                self._requests.labels(method, route, str(status)),
                self._seconds.labels(method, route),
            )
        served[0].inc()
        served[1].observe(seconds)

    def part_restarted(self, part: str) -> None:
        self._restarts.labels(part).inc()

    def show(self, figures: Figures, parts: Mapping[str, str], streams_open: int) -> bytes:
        """The page, with the gauges as of now."""
        self._streams.set(streams_open)
        self._orders.set(figures.orders)
        self._providers.set(figures.providers_online)
        for gauge in (self._tasks, self._leases, self._up):
            gauge.clear()
        for source, counts in (("chain", figures.tasks_on_chain), ("work", figures.tasks_by_work)):
            for state, count in counts.items():
                self._tasks.labels(source, state).set(count)
        for state, count in figures.leases.items():
            self._leases.labels(state).set(count)
        for part, condition in parts.items():
            self._up.labels(part).set(condition == "ok")
        if figures.block_number is not None and figures.head_number is not None:
            self._block.set(figures.block_number)
            self._head.set(figures.head_number)
            self._lag.set(max(0, figures.head_number - figures.block_number))
        if figures.books_block_number is not None:
            self._books_block.set(figures.books_block_number)
        self._books_differences.set(figures.books_differences)
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"tallystick_{name}", text, labels, registry=self.registry)
