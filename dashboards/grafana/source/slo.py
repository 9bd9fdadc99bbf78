"""What was promised, what is left of it, and how fast that is being spent."""

from parts import GREEN, RED, YELLOW, board, lines, number

WINDOWS = ["5m", "30m", "1h", "2h", "6h", "1d", "3d"]
# How fast the budget may be spent before somebody is told: over the longer of two windows, and the shorter, too.
BURNS = [(14.4, "5m", "1h"), (6, "30m", "6h"), (3, "2h", "1d"), (1, "6h", "3d")]

OBJECTIVES = [
    (
        "delivery",
        "Delivered in 10 ms",
        "events written to a socket within 10 ms of the read of their record",
        "See which leg is slow in **Delivery** and whether a thread has no processor left in **Runtime**",
    ),
    (
        "freshness",
        "Feeds fresh",
        "time in which the newest record of a feed was younger than 2 s, while its market was open",
        "Find the feed in **Feeds and Kafka**: its producer, a broker, or this gateway",
    ),
    (
        "survival",
        "Sessions survive",
        "sessions, open or opened, that were not ended for being slow or stalled, for want of memory, or by a panic in their own work",
        "See the reasons in **Sessions and limits**, and `/sessions?top=20` for who is slow",
    ),
]


def ratio(name, window):
    return f'tickgate:slo:error_ratio_rate{window}{{slo="{name}",job=~"$job"}}'


def objective(name):
    return f'scalar(tickgate:slo:objective{{slo="{name}"}})'


def burn(name, window):
    return f"max ({ratio(name, window)}) / (1 - {objective(name)})"


def dashboard():
    stats, burning, errors, alerts = [], [], [], []
    for name, title, what, advice in OBJECTIVES:
        stats.append(
            (
                4,
                number(
                    f"{title}: budget left",
                    f"Of 30 days, of {what}. Below 0 more was spent than was agreed: changes that can wait should. {advice}.",
                    "percentunit",
                    [(f'min (tickgate:slo:budget_left_ratio30d{{slo="{name}",job=~"$job"}})', "left")],
                    ([(0, YELLOW), (0.25, GREEN)], RED),
                    decimals=1,
                    empty="no rules",
                ),
            )
        )
        stats.append(
            (
                4,
                number(
                    f"{title}: last hour",
                    f"The share of {what}, over the last hour; and the objective. Below it, budget is being spent. {advice}.",
                    "percentunit",
                    [(f"1 - max ({ratio(name, '1h')})", "now"), (f'max (tickgate:slo:objective{{slo="{name}"}})', "objective")],
                    decimals=2,
                    empty="no rules",
                ),
            )
        )
        burning.append(
            (
                8,
                lines(
                    f"{title}: burn rate",
                    f"How many times faster than allowed the budget is spent, over windows of different length. 1 spends it in exactly 30 days, "
                    f"14.4 a fiftieth of it in an hour. Lines are where somebody is told. {advice}.",
                    "none",
                    [(burn(name, window), window) for window in WINDOWS],
                    [(1, GREEN), (3, YELLOW), (6, YELLOW), (14.4, RED)],
                    empty="no rules",
                ),
            )
        )
        errors.append(
            (
                8,
                lines(
                    f"{title}: errors",
                    f"The share that is *not* {what}, over 5 minutes and an hour, and what is allowed of it. {advice}.",
                    "percentunit",
                    [
                        (f"max ({ratio(name, '5m')})", "5m"),
                        (f"max ({ratio(name, '1h')})", "1h"),
                        (f'max (1 - tickgate:slo:objective{{slo="{name}"}})', "allowed"),
                    ],
                    empty="no rules",
                ),
            )
        )
        near = [
            (f"clamp_max(min ({burn(name, short)} or label_replace({burn(name, long)}, \"w\", \"long\", \"\", \"\")) / {factor}, 5)", f"{factor}x over {short} and {long}")
            for factor, short, long in BURNS
        ]
        alerts.append(
            (
                8,
                lines(
                    f"{title}: how near an alert is",
                    "The burn rate over the shorter and the longer window, whichever is lower, as a part of what it takes for an alert: at 100 % "
                    f"it is there. The upper two page, the lower two write a ticket. Drawn up to 500 %. {advice}.",
                    "percentunit",
                    near,
                    [(1, RED)],
                    empty="no rules",
                    top=1,
                ),
            )
        )
    rows = [(4, stats), (6, burning), (6, errors), (6, alerts)]
    return board("slo", "Objectives over 30 days, what is left of them, and how fast that is spent. It needs the rules of dashboards/prometheus.", rows)
