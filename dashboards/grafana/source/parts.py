"""What all dashboards are made of: variables, expressions, panels and the grid.

A panel cannot be made without a title, a description, a unit and a query with a legend. `cargo xtask dashboards check` looks
at what comes out of it once more.
"""

from grafana_foundation_sdk.builders import bargauge, common, dashboard, heatmap, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common as cm
from grafana_foundation_sdk.models import dashboard as dm
from grafana_foundation_sdk.models import heatmap as hm
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

# One screen of 1080 lines.
COLUMNS = 24
LINES_MAX = 22

BOARDS = [
    ("overview", "Overview"),
    ("feeds", "Feeds and Kafka"),
    ("delivery", "Delivery"),
    ("sessions", "Sessions and limits"),
    ("runtime", "Runtime"),
    ("slo", "SLO"),
    ("load", "Load test"),
]

SOURCE = dm.DataSourceRef(type_val="prometheus", uid="${datasource}")
FEED = 'feed=~"$feed"'
GATEWAYS = 'job=~"$job", instance=~"$instance"'

GREEN, YELLOW, RED, GREY, BLUE = "green", "orange", "red", "#808080", "blue"


# Expressions.


def of(name, more="", where=GATEWAYS):
    """A metric of the gateways that are chosen."""
    return f"{name}{{{where}{', ' + more if more else ''}}}"


def rate(name, more="", window="$__rate_interval", where=GATEWAYS):
    return f"rate({of(name, more, where)}[{window}])"


def total(name, by="", more="", where=GATEWAYS):
    """Events a second, over all gateways that are chosen."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} ({rate(name, more, where=where)})"


def each(name, by="", more=""):
    """Events a second that every gateway sees, all of them the same: that of the one which sees most."""
    inner, outer = (f"instance, {by}", f" by ({by})") if by else ("instance", "")
    return f"max{outer} (sum by ({inner}) ({rate(name, more)}))"


def within_range(name, more="", where=GATEWAYS):
    """How many there were in the time that is shown."""
    return f"sum (increase({of(name, more, where)}[$__range]))"


def share(part, whole):
    """A part of a whole that may be nothing: 0 then."""
    return f"({part}) / ({whole} > 0) or vector(0)"


def stage(name):
    return f'stage="{name}"'


def quantile(name, which):
    """Quantiles do not add up: that of the worst gateway."""
    only = f'{stage(name)}, q="{which}"'
    return f"max ({of('tickgate_latency_quantile_seconds', only)})"


def buckets(name):
    """The histogram of a stage, of all gateways that are chosen."""
    return f"sum by (le) ({rate('tickgate_latency_seconds_bucket', stage(name))})"


QUANTILES = [("0.5", "p50"), ("0.9", "p90"), ("0.99", "p99"), ("0.999", "p99.9"), ("0.9999", "p99.99"), ("1", "max")]


def quantiles(name, but=()):
    return [(quantile(name, which), label) for which, label in QUANTILES if label not in but]


def feed_age(more=""):
    """Seconds since Kafka got the newest record of a feed, as of the scrape; of a feed that has none yet, since the start."""
    record = of("tickgate_partition_record_timestamp_seconds", more)
    start = of("process_start_time_seconds")
    return (
        f"(clamp_min(min by (job, instance, feed) (timestamp({record}) - {record}), 0)"
        f" or max by (job, instance, feed) (0 * {of('tickgate_feed_expected', more)}"
        f" + on (job, instance) group_left () (timestamp({start}) - {start})))"
    )


def not_live():
    """How many feeds are not live on one gateway at least, of those whose market is open."""
    live, expected = (of(name, more) for name, more in (("tickgate_feed_state", f'state="live", {FEED}'), ("tickgate_feed_expected", FEED)))
    return f"count (min by (feed) ({live}) == 0 and on (feed) max by (feed) ({expected}) == 1) or vector(0)"


def expected_age(more=""):
    """The same, of feeds whose market is open."""
    return f"{feed_age(more)} and on (job, instance, feed) {of('tickgate_feed_expected', more)} == 1"


# Panels. Each gets a query or several: (expression, legend).


def queries(panel, exprs, instant=False, form=PromQueryFormat.TIME_SERIES):
    for index, (expr, legend) in enumerate(exprs):
        query = Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + index)).format(form).datasource(SOURCE)
        panel.with_target(query.instant() if instant else query.range())
    return panel


def steps(values, below=GREEN):
    """Thresholds: [(from, colour)], and the colour below all of them."""
    all_steps = [dm.Threshold(value=None, color=below)] + [dm.Threshold(value=value, color=color) for value, color in values]
    return dashboard.ThresholdsConfig().mode(dm.ThresholdsMode.ABSOLUTE).steps(all_steps)


def basics(panel, title, description, unit, decimals, limits, empty):
    panel.title(title).description(description).unit(unit).datasource(SOURCE)
    if decimals is not None:
        panel.decimals(decimals)
    if limits is not None:
        panel.thresholds(steps(*limits) if isinstance(limits, tuple) else steps(limits))
    if empty:
        panel.no_value(empty)
    return panel


def number(title, description, unit, exprs, limits=None, decimals=None, empty=None, instant=False, mappings=None, named=False):
    """One value, or a few. `instant`: of the whole time that is shown."""
    panel = stat.Panel().graph_mode(cm.BigValueGraphMode.NONE if instant else cm.BigValueGraphMode.AREA)
    panel.color_mode(cm.BigValueColorMode.BACKGROUND_SOLID if limits else cm.BigValueColorMode.VALUE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    text = cm.BigValueTextMode.NAME if named else cm.BigValueTextMode.AUTO
    panel.text_mode(text).justify_mode(cm.BigValueJustifyMode.CENTER).orientation(cm.VizOrientation.AUTO)
    panel.color_scheme(dashboard.FieldColor().mode(dm.FieldColorModeId.THRESHOLDS))
    if mappings:
        panel.mappings(mappings)
    basics(panel, title, description, unit, decimals, limits or ([], BLUE), empty)
    return queries(panel, exprs, instant)


def lines(title, description, unit, exprs, limits=None, log=False, stacked=False, empty=None, table=False, top=None, area=False):
    """Lines over time. `limits`: [(from, colour)], drawn as lines. `table`: many series, the largest first."""
    panel = timeseries.Panel().line_width(1).fill_opacity(25 if stacked or area else 6)
    panel.show_points(cm.VisibilityMode.NEVER).span_nulls(False)
    panel.tooltip(common.VizTooltipOptions().mode(cm.TooltipDisplayMode.MULTI).sort(cm.SortOrder.DESCENDING))
    legend = common.VizLegendOptions().show_legend(True)
    if table:
        legend.display_mode(cm.LegendDisplayMode.TABLE).placement(cm.LegendPlacement.RIGHT).calcs(["max"])
        legend.sort_by("Max").sort_desc(True)
    else:
        legend.display_mode(cm.LegendDisplayMode.LIST).placement(cm.LegendPlacement.BOTTOM).calcs([])
    panel.legend(legend)
    if log:
        panel.scale_distribution(common.ScaleDistributionConfig().type(cm.ScaleDistribution.LOG).log(10))
    else:
        panel.min(0)
    if top is not None:
        panel.axis_soft_max(top)
    if stacked:
        panel.stacking(common.StackingConfig().mode(cm.StackingMode.NORMAL).group("A"))
    if limits:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(cm.GraphTresholdsStyleMode.DASHED))
        limits = (limits, "transparent")
    panel.color_scheme(dashboard.FieldColor().mode(dm.FieldColorModeId.PALETTE_CLASSIC))
    basics(panel, title, description, unit, None, limits, empty)
    return queries(panel, exprs)


def heat(title, description, unit, expr):
    """A histogram over time; the buckets' counts are for each second."""
    panel = heatmap.Panel().calculate(False).cell_gap(1).show_value(cm.VisibilityMode.NEVER)
    panel.y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(cm.AxisPlacement.LEFT))
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(cm.HeatmapCellLayout.LE))
    panel.cell_values(heatmap.CellValues().unit("eps"))
    colors = heatmap.HeatmapColorOptions().mode(hm.HeatmapColorMode.SCHEME).scheme("Turbo").steps(64)
    panel.color(colors.scale(hm.HeatmapColorScale.EXPONENTIAL).exponent(0.35).fill("dark-orange"))
    panel.filter_values(heatmap.FilterValueRange().le(1e-9)).show_tooltip().show_y_histogram().hide_legend()
    basics(panel, title, description, unit, None, None, None)
    return queries(panel, [(expr, "{{le}}")], form=PromQueryFormat.HEATMAP)


def states(title, description, unit, exprs, mappings, limits):
    """What state things are in, over time."""
    panel = statetimeline.Panel().merge_values(True).show_value(cm.VisibilityMode.AUTO).row_height(0.85).fill_opacity(75)
    panel.line_width(0).align_value(cm.TimelineValueAlignment.CENTER).mappings(mappings)
    panel.legend(common.VizLegendOptions().show_legend(True).display_mode(cm.LegendDisplayMode.LIST).placement(cm.LegendPlacement.BOTTOM))
    panel.color_scheme(dashboard.FieldColor().mode(dm.FieldColorModeId.THRESHOLDS))
    basics(panel, title, description, unit, None, limits, None)
    return queries(panel, exprs)


def bars(title, description, unit, exprs, limits, top=None):
    """Bars of what is so now, from 0."""
    panel = bargauge.Panel().display_mode(cm.BarGaugeDisplayMode.BASIC).orientation(cm.VizOrientation.HORIZONTAL)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields("")).min(0)
    if top is not None:
        panel.max(top)
    panel.color_scheme(dashboard.FieldColor().mode(dm.FieldColorModeId.THRESHOLDS))
    basics(panel, title, description, unit, None, limits, None)
    return queries(panel, exprs, instant=True)


def named_range(low, high, text, color, index):
    result = dm.ValueMappingResult(text=text, color=color, index=index)
    return dm.RangeMap(options=dm.DashboardRangeMapOptions(from_val=low, to=high, result=result))


def named_values(names):
    """Texts and colours of values: {value: (text, colour)}."""
    options = {
        str(value): dm.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(names.items())
    }
    return [dm.ValueMap(options=options)]


# Dashboards.


def everything(name, label, query, description):
    """A variable of which several or all values can be chosen."""
    variable = dashboard.QueryVariable(name).label(label).description(description).datasource(SOURCE)
    variable.query({"query": query, "refId": "A"}).refresh(dm.VariableRefresh.ON_TIME_RANGE_CHANGED)
    variable.sort(dm.VariableSort.ALPHABETICAL_ASC).multi(True).include_all(True)
    return variable.current(dm.VariableOption(selected=True, text=["All"], value=["$__all"]))


def feed_variable():
    query = f"label_values({of('tickgate_feed_state')}, feed)"
    return everything("feed", "Feed", query, "Feeds: a topic of Kafka each")


def board(name, description, rows, variables=(), about="__name__=\"tickgate_build_info\""):
    """A dashboard of rows of panels: [(lines, [(columns, panel)])]. `about` matches a metric that all of its programs have."""
    title = dict(BOARDS)[name]
    made = dashboard.Dashboard(f"Tickgate / {title}").uid(f"tickgate-{name}").description(description)
    made.tags(["tickgate"]).timezone("browser").refresh("10s").time("now-30m", "now").editable()
    made.tooltip(dm.DashboardCursorSync.CROSSHAIR)
    made.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    made.with_variable(everything("job", "Job", f"label_values({{{about}}}, job)", "Jobs of Prometheus that scrape Tickgate"))
    instances = f'label_values({{{about}, job=~"$job"}}, instance)'
    made.with_variable(everything("instance", "Instance", instances, "Programs that are scraped"))
    for variable in variables:
        made.with_variable(variable)
    for other, label in BOARDS:
        if other != name:
            link = dashboard.DashboardLink(label).type(dm.DashboardLinkType.LINK).url(f"/d/tickgate-{other}")
            # Those of a load test are other programs than gateways.
            made.link(link.keep_time(True).include_vars("load" not in (name, other)).icon("dashboard"))
    assert sum(height for height, _ in rows) <= LINES_MAX, f"{name} is higher than a screen"
    number_of = 0
    for height, panels in rows:
        assert sum(width for width, _ in panels) == COLUMNS, f"{name}: a row is not {COLUMNS} columns wide"
        for width, panel in panels:
            number_of += 1
            made.with_panel(panel.id(number_of).span(width).height(height))
    return made
