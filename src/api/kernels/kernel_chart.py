# SPDX-License-Identifier: Apache-2.0
"""kernel_chart.py: what a figure of matplotlib shows, as data.

The shapes are those that E2B's clients know: line, scatter, bar, pie, box_and_whisker, superchart
(several axes), unknown. What is read are the artists of the axes, not the calls that made them.
"""
import math


def chart_of(figure):
    charts = [axes_chart(axes) for axes in figure.axes if axes.get_visible()]
    if not charts:
        return None
    if len(charts) == 1:
        return charts[0]
    title = figure._suptitle.get_text() if getattr(figure, "_suptitle", None) else ""
    return {"type": "superchart", "title": title, "elements": charts}


def unit_of(label):
    """The unit in "Price (EUR)"."""
    return label[label.rindex("(") + 1:-1] if label.endswith(")") and "(" in label else None


def base(axes, kind, elements):
    x, y = axes.get_xlabel(), axes.get_ylabel()
    return {"type": kind, "title": axes.get_title(), "x_label": x or None, "y_label": y or None,
            "x_unit": unit_of(x), "y_unit": unit_of(y), "elements": elements}


def axis_scale(axis):
    from matplotlib import category, dates
    if isinstance(axis.get_converter() if hasattr(axis, "get_converter") else axis.converter,
                  dates._SwitchableDateConverter):
        return "datetime"
    if isinstance(axis.get_major_locator(), category.StrCategoryLocator):
        return "categorical"
    return axis.get_scale()


def axis_ticks(axis, scale):
    labels = [t.get_text() for t in axis.get_ticklabels()]
    return [tick(v, scale) for v in axis.get_ticklocs()], labels


def tick(value, scale):
    if scale == "datetime":
        from matplotlib import dates
        try:
            return dates.num2date(value).isoformat()
        except (ValueError, OverflowError):
            return None
    return value


def names_of(axis):
    """{position: text} of an axis of categories."""
    units = getattr(axis, "units", None)
    mapping = getattr(units, "_mapping", None)
    return {v: k for k, v in mapping.items()} if mapping else {}


def point(value, scale, names):
    if scale == "categorical":
        return names.get(round(float(value)), value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "dtype") and value.dtype.kind == "M":
        return str(value)
    return tick(value, scale) if scale == "datetime" else float(value)


def axes_chart(axes):
    patches = [p for p in axes.patches if p.get_visible()]
    wedges = [p for p in patches if type(p).__name__ == "Wedge"]
    if wedges:
        return {"type": "pie", "title": axes.get_title(), "elements": pie(axes, wedges)}
    if axes.containers and any(type(c).__name__ == "BarContainer" for c in axes.containers):
        return base(axes, "bar", bars(axes))
    boxes = box_whiskers(axes)
    if boxes:
        return base(axes, "box_and_whisker", boxes)
    lines = [ln for ln in axes.lines if ln.get_visible() and len(ln.get_xdata())]
    dots = [c for c in axes.collections if type(c).__name__ == "PathCollection"]
    if not lines and not dots:
        return base(axes, "unknown", [])
    x_scale, y_scale = axis_scale(axes.xaxis), axis_scale(axes.yaxis)
    xn, yn = names_of(axes.xaxis), names_of(axes.yaxis)
    if lines:
        elements = [{"label": ln.get_label(),
                     "points": [[point(x, x_scale, xn), point(y, y_scale, yn)] for x, y in
                                zip(ln.get_xdata(orig=not xn), ln.get_ydata(orig=not yn))]}
                    for ln in lines]
    else:
        elements = [{"label": c.get_label(),
                     "points": [[point(x, x_scale, xn), point(y, y_scale, yn)]
                                for x, y in c.get_offsets()]} for c in dots]
    chart = base(axes, "line" if lines else "scatter", elements)
    for side, axis, scale in (("x", axes.xaxis, x_scale), ("y", axes.yaxis, y_scale)):
        chart[side + "_ticks"], chart[side + "_tick_labels"] = axis_ticks(axis, scale)
        chart[side + "_scale"] = scale
    return chart


def pie(axes, wedges):
    texts = [t.get_text() for t in axes.texts]
    step = max(1, len(texts) // len(wedges)) if texts else 1
    return [{"label": w.get_label() if not w.get_label().startswith("_") and w.get_label()
             else texts[i * step] if i * step < len(texts) else "",
             "angle": abs(w.theta2 - w.theta1), "radius": w.r} for i, w in enumerate(wedges)]


def bars(axes):
    out = []
    for container in axes.containers:
        if type(container).__name__ != "BarContainer":
            continue
        upright = getattr(container, "orientation", "vertical") != "horizontal"
        axis = axes.xaxis if upright else axes.yaxis
        ticks = dict(zip([round(float(v), 6) for v in axis.get_ticklocs()],
                         [t.get_text() for t in axis.get_ticklabels()]))
        for bar in container:
            at = bar.get_x() + bar.get_width() / 2 if upright else bar.get_y() + bar.get_height() / 2
            label = ticks.get(round(at, 6)) or names_of(axis).get(round(at)) or "%g" % at
            out.append({"label": label, "group": container.get_label(),
                        "value": bar.get_height() if upright else bar.get_width()})
    return out


def box_whiskers(axes):
    """boxplot() draws, per box: its outline (7 or 5 points), two whiskers, two caps, a median."""
    found = []
    lines = list(axes.lines)
    outlines = [ln for ln in lines if len(ln.get_xdata()) == 5
                and ln.get_xdata()[0] == ln.get_xdata()[-1]
                and ln.get_ydata()[0] == ln.get_ydata()[-1]]
    outlines += [p for p in axes.patches if type(p).__name__ == "PathPatch"]
    if not outlines:
        return None
    labels = [t.get_text() for t in axes.get_xticklabels()]
    for i, outline in enumerate(outlines):
        if hasattr(outline, "get_xdata"):
            xs, ys = list(outline.get_xdata()), list(outline.get_ydata())
        else:
            points = outline.get_path().vertices[:5]
            xs, ys = [p[0] for p in points], [p[1] for p in points]
        left, right, low, high = min(xs), max(xs), min(ys), max(ys)
        middle = (left + right) / 2
        box = {"label": labels[i] if i < len(labels) else str(i + 1), "min": low,
               "first_quartile": low, "median": None, "third_quartile": high, "max": high,
               "outliers": []}
        for ln in lines:
            lx, ly = [float(v) for v in ln.get_xdata()], [float(v) for v in ln.get_ydata()]
            if not lx or ln is outline:
                continue
            if len(lx) == 2 and all(math.isclose(v, middle) for v in lx):
                box["min"], box["max"] = min(box["min"], *ly), max(box["max"], *ly)
            elif len(lx) == 2 and ly[0] == ly[1] and low <= ly[0] <= high and \
                    math.isclose(lx[0], left) and math.isclose(lx[1], right):
                box["median"] = ly[0]
            elif ln.get_marker() not in ("", "None", None) and \
                    all(math.isclose(v, middle) for v in lx):
                box["outliers"] = ly
        found.append(box)
    return found if all(b["median"] is not None for b in found) else None
