"""Draw the picture of the pyramid (nbs/images/pyramid-light.svg and pyramid-dark.svg): python tools/draw_pyramid.py

The face is made of polygons, so that the reduced branch can show what really remains of it at low resolution."""
import math
from pathlib import Path

from PIL import Image, ImageDraw

from psr_fer.figures import class_color

OUT = Path(__file__).resolve().parent.parent/"nbs"/"images"
W, H = 1180, 500
FONT = "font-family=\"-apple-system,'Segoe UI',Helvetica,Arial,sans-serif\""
THEMES = dict(
    light=dict(ink="#1f2328", soft="#59636e", line="#8c959f", card="#f6f8fa", edge="#d1d9e0", stn="#ddf4ff", stn_edge="#54aeff",
        low="#fff1e5", low_edge="#fb8f44", shared="#e6f6ea", shared_edge="#4ac26b", head="#fbefff", head_edge="#c297ff",
        backdrop="#dbe9f4"),
    dark=dict(ink="#f0f6fc", soft="#9198a1", line="#6e7681", card="#151b23", edge="#3d444d", stn="#0c2d4a", stn_edge="#388bfd",
        low="#3d2410", low_edge="#db6d28", shared="#12331d", shared_edge="#3fb950", head="#2f1d4a", head_edge="#a371f7",
        backdrop="#a9bccb"))
HAIR, SKIN, SHADE, BROW, WHITE = "#4a2f23", "#eeb78d", "#d99a70", "#3a241b", "#ffffff"
IRIS, MOUTH, TEETH, TONGUE, CLOTH = "#2f5f8a", "#7a2331", "#ffffff", "#d0616d", "#2f7f86"
FRINGE = [(.22, .46), (.225, .30), (.34, .17), (.50, .13), (.66, .17), (.775, .30), (.78, .46),
          (.72, .36), (.58, .30), (.40, .33), (.29, .37)]


def ellipse(cx, cy, rx, ry, a0=0, a1=360, n=32):
    return [(cx + rx*math.cos(math.radians(a0 + (a1 - a0)*i/n)), cy + ry*math.sin(math.radians(a0 + (a1 - a0)*i/n))) for i in range(n + 1)]


def band(points, thick):
    "A polygon along `points`, widest in the middle."
    n, out = len(points) - 1, ([], [])
    for i, (x, y) in enumerate(points):
        (x0, y0), (x1, y1) = points[max(i - 1, 0)], points[min(i + 1, n)]
        d, w = math.hypot(x1 - x0, y1 - y0), thick*(.35 + .65*math.sin(math.pi*i/n))/2
        out[0].append((x - (y1 - y0)/d*w, y + (x1 - x0)/d*w))
        out[1].append((x + (y1 - y0)/d*w, y - (x1 - x0)/d*w))
    return out[0] + out[1][::-1]


def face():
    "A happy face on the unit square: list of (colour, polygon)."
    shapes = [(CLOTH, ellipse(.5, 1.1, .40, .24)), (SHADE, [(.41, .78), (.59, .78), (.61, .95), (.5, 1.0), (.39, .95)]),
              (HAIR, ellipse(.5, .40, .345, .335)), (HAIR, [(.157, .40), (.843, .40), (.81, .66), (.70, .60), (.30, .60), (.19, .66)]),
              (SHADE, ellipse(.205, .53, .05, .075)), (SHADE, ellipse(.795, .53, .05, .075)),
              (SKIN, ellipse(.5, .52, .285, .355)),
              (HAIR, FRINGE)]
    for s in (-1, 1):
        x = .5 + s*.125
        shapes += [(BROW, band(ellipse(x, .455, .085, .06, 205, 335, 16), .026)), (WHITE, ellipse(x, .50, .058, .035)),
                   (IRIS, ellipse(x, .50, .028, .031)), ("#101418", ellipse(x, .50, .014, .016)),
                   (WHITE, ellipse(x + .01, .489, .007, .007)),
                   (SHADE, ellipse(.5 + s*.185, .62, .05, .03))]
    shapes += [(SHADE, band([(.49, .52), (.475, .60), (.488, .625), (.525, .622)], .016)),
               (MOUTH, ellipse(.5, .675, .135, .125, 0, 180, 32)), (TONGUE, ellipse(.5, .765, .065, .03)),
               (TEETH, [(.375, .678), (.625, .678), (.60, .712), (.40, .712)])]
    return shapes


def framed(x, y, size, inside, more=""):
    "What is drawn on a canvas of 100 by 100, in a rounded square of `size` pixels."
    return f'<g transform="translate({x} {y}) scale({size/100:.4g})"><g clip-path="url(#frame)"{more}>{inside}</g></g>'


def portrait(x, y, size, t, pose=""):
    "The face as vectors in a rounded square; `pose` is an SVG transform on a canvas of 100 by 100."
    return framed(x, y, size, f'<rect width="100" height="100" fill="{t["backdrop"]}"/><use href="#face" transform="{pose}"/>')


def mosaic(x, y, size, n, t):
    "The face as n by n mean colours."
    big = 16*n
    im = Image.new("RGB", (big, big), t["backdrop"])
    draw = ImageDraw.Draw(im)
    for c, p in face(): draw.polygon([(px*big, py*big) for px, py in p], fill=c)
    im, rects, u = im.resize((n, n), Image.BOX).quantize(40).convert("RGB"), [], 100/n
    for j in range(n):
        i = 0
        while i < n:
            k = i
            while k < n and im.getpixel((k, j)) == im.getpixel((i, j)): k += 1
            colour = "%02x%02x%02x" % im.getpixel((i, j))
            rects.append(f'<path fill="#{colour}" d="M{i*u:.1f} {j*u:.1f}h{(k - i)*u + .6:.1f}v{u + .6:.1f}H{i*u:.1f}Z"/>')
            i = k
    return framed(x, y, size, "".join(rects), ' shape-rendering="crispEdges"')


def text(x, y, s, fill, size=14, anchor="middle", weight=400, font=FONT):
    return f'<text x="{x}" y="{y}" fill="{fill}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" {font}>{s}</text>'


def panel(x, y, w, h, fill, edge):
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="10" fill="{fill}" stroke="{edge}" stroke-width="1.5"/>'


def box(x, y, w, h, title, sub, fill, edge, t):
    "A block with its name and lines of explanation."
    n = len(sub)
    top = y + h/2 - 8.5*n + 5
    lines = [text(x + w/2, top, title, t["ink"], 15, weight=600)]
    lines += [text(x + w/2, top + 19 + 16*i, o, t["soft"], 12) for i, o in enumerate(sub)]
    return panel(x, y, w, h, fill, edge) + "".join(lines)


def arrow(points, t):
    d = "M" + "L".join(f"{x} {y}" for x, y in points)
    return f'<path d="{d}" fill="none" stroke="{t["line"]}" stroke-width="1.6" stroke-linejoin="round" marker-end="url(#tip)"/>'


def flow(x0, y0, x1, y1, t):
    "A smooth arrow from left to right."
    m = (x0 + x1)/2
    return f'<path d="M{x0} {y0}C{m} {y0} {m} {y1} {x1} {y1}" fill="none" stroke="{t["line"]}" stroke-width="1.6" marker-end="url(#tip)"/>'


def bars(x, y, t, values, w=92):
    "Probabilities as named bars."
    out = ""
    for i, (k, v) in enumerate(values):
        out += text(x, y + 30*i, k, t["ink"], 12.5, "start")
        out += f'<rect x="{x}" y="{y + 6 + 30*i}" width="{max(w*v, 2.5):.1f}" height="6" rx="3" fill="{class_color(k)}"/>'
    return out


def draw(t):
    ys, top = (86, 218, 350), 112 # top edges of the three rows of branch images, size of a full-size one
    mid = [y + top/2 for y in ys]
    faces = "".join(f'<path fill="{c}" d="M{"L".join(f"{x*100:.1f} {y*100:.1f}" for x, y in p)}Z"/>' for c, p in face())
    o = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" width="{W}" height="{H}" role="img" aria-labelledby="t d">',
         '<title id="t">The pyramid with super-resolution</title>',
         '<desc id="d">A face goes through a spatial transformer, is scaled into three branch images '
         '(half size by mean pooling, super-resolved, original), each goes through its own copy of the low-level layers, '
         'then through the shared high-level layers and the shared head; the three answers are fused into one.</desc>',
         '<defs><marker id="tip" viewBox="0 0 10 10" refX="8.5" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
         f'<path d="M0 .8L9.5 5L0 9.2Z" fill="{t["line"]}"/></marker>'
         '<clipPath id="frame"><rect width="100" height="100" rx="7"/></clipPath>'
         f'<g id="face">{faces}</g></defs>']
    o.append(f'<rect x="316" y="40" width="226" height="444" rx="16" fill="{t["card"]}" stroke="{t["edge"]}" stroke-width="1.2"/>')
    for x, s, sub in ((66, "Input", "W × H"), (211, "STN", "aligns the face"), (429, "Scaling", "kstep = 1: three images"),
                      (633, "Low level", "a copy per branch"), (797, "High level", "shared"),
                      (947, "Head", "shared"), (1104, "Fusion", "weighted")):
        o += [text(x, 20, s, t["ink"], 16, weight=650), text(x, 37 if x != 429 else 62, sub, t["soft"], 12)]
    # input and transformer
    o += [portrait(10, mid[1] - 56, 112, t, "translate(53 52) rotate(-19) scale(.86) translate(-50 -50)"),
          portrait(155, mid[1] - 56, 112, t)]
    o.append(f'<rect x="155" y="{mid[1] - 56}" width="112" height="112" rx="8" fill="none" stroke="{t["stn_edge"]}" stroke-width="2.5"/>')
    o += [arrow([(126, mid[1]), (151, mid[1])], t), text(211, mid[1] + 78, "θ (2×3): turn, zoom,", t["soft"], 12),
          text(211, mid[1] + 94, "shift, shear", t["soft"], 12)]
    # branch images at their true relative sizes
    x, small = 338, 56
    o += [mosaic(x + 28, mid[0] - small/2, small, 14, t), portrait(x, ys[1], top, t), portrait(x, ys[2], top, t)]
    for y, lines in ((mid[0], ("reduced", "W/2 × H/2")), (mid[1], ("super-", "resolved", "W × H")), (mid[2], ("original", "W × H"))):
        for i, s in enumerate(lines): # names, and the size at the end
            colour, height = (t["soft"], 12) if s is lines[-1] else (t["ink"], 13)
            o.append(text(x + 122, y - 9*(len(lines) - 1) + 18*i + 5, s, colour, height, "start", font=FONT))
    o += [flow(271, mid[1] - 8, x + 22, mid[0], t), flow(271, mid[1] + 8, x - 5, mid[2], t)]
    o += [arrow([(x + 56, mid[0] + small/2 + 4), (x + 56, ys[1] - 4)], t),
          text(x + 64, (mid[0] + small/2 + ys[1])/2 + 4, "EDSR ×2", t["ink"], 12, "start", 600)]
    o.append(text(296, mid[0] + 34, "mean", t["soft"], 12, "end") + text(296, mid[0] + 49, "pool", t["soft"], 12, "end"))
    # low-level copies, shared layers, head
    for i, y in enumerate(mid):
        layers = ["conv 1 to", "conv <tspan font-style='italic'>pos</tspan>"]
        o += [box(578, y - 36, 110, 72, f"copy {i + 1}", layers, t["low"], t["low_edge"], t)]
        o += [arrow([(546, y), (574, y)], t), arrow([(692, y), (733, y)], t), arrow([(857, y), (888, y)], t)]
    span = mid[2] - mid[0] + 72
    o += [panel(737, mid[0] - 36, 120, span, t["shared"], t["shared_edge"]),
          text(797, mid[1] - 12, "rest of the", t["ink"], 15, weight=600), text(797, mid[1] + 7, "network", t["ink"], 15, weight=600),
          text(797, mid[1] + 28, "same weights", t["soft"], 12), text(797, mid[1] + 44, "for all branches", t["soft"], 12)]
    o += [panel(892, mid[0] - 36, 110, span, t["head"], t["head_edge"]),
          text(947, mid[1] - 12, "two linear", t["ink"], 15, weight=600), text(947, mid[1] + 7, "layers", t["ink"], 15, weight=600),
          text(947, mid[1] + 28, "scores of each", t["soft"], 12), text(947, mid[1] + 44, "branch", t["soft"], 12)]
    # fusion
    for i, y in enumerate(mid):
        weight = f"w<tspan font-size='9' dy='3'>{i + 1}</tspan>"
        o += [flow(1006, y, (1052, 1044, 1052)[i], mid[1] + 18*(i - 1), t), text(1018, y + (-9 if i < 2 else 20), weight, t["soft"], 12.5)]
    o += [f'<circle cx="1066" cy="{mid[1]}" r="20" fill="{t["card"]}" stroke="{t["edge"]}" stroke-width="1.5"/>',
          text(1066, mid[1] + 6, "Σ", t["ink"], 18, weight=600)]
    o += [bars(1100, mid[1] - 30, t, (("happiness", .88), ("surprise", .07), ("neutral", .05)), 74)]
    return "\n".join(o) + "\n</svg>\n"


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for name, theme in THEMES.items(): (OUT/f"pyramid-{name}.svg").write_text(draw(theme), encoding="utf-8")
