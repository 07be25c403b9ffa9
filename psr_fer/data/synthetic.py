"""Synthetic faces: eight expressions that a stranger can name, in the files of a real FER+, for use before any data is at hand."""

import json, math, os, shutil, sys, tempfile, warnings
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pandas as pd
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from fastcore.parallel import parallel
from psr_fer.emotions import EMOTIONS, emotion, prior

ACTIONS = dict.fromkeys(( # facial actions, 0 at rest; AU: the action unit of FACS
    "brow_inner", "brow_outer", "brow_pinch", "brow_single", # inner ends up (AU1) or down (AU4), outer ends up (AU2), drawn together (AU4), one brow up
    "lid_upper", "lid_lower", "gaze_x", "gaze_y", # upper lids up (AU5) or drooping, lower lids up (AU7); look to the image's right, down
    "nose_wrinkle", "cheek", # folds across and beside the nose (AU9), cheeks up (AU6)
    "mouth_curve", "mouth_width", "mouth_open", "mouth_square", # corners up (AU12) or down (AU15), stretched (AU20) or pursed, open (AU25), oval 0 to box 1
    "teeth_upper", "teeth_lower", # how much of each row an open mouth shows
    "lip_raise", "lip_press", "lip_pout", "smirk", # upper lip up (AU10), pressed thin (AU24), chin up (AU17), one corner up and tight (AU14)
    "jaw", "tongue"), 0.) # chin dropped (AU26), tongue out

_smile = dict(mouth_width=(.3,.5), cheek=(.8,1), brow_outer=(0,.2))
_angry = dict(brow_inner=(-1.1,-.9), brow_outer=(.3,.6), brow_pinch=(.8,1), lid_lower=(.3,.5))
_disgusted = dict(brow_outer=(-.4,-.2), brow_pinch=(.4,.6), lid_upper=(-.5,-.35), nose_wrinkle=(.9,1.1), cheek=(.3,.6))
EXPRESSIONS = dict( # expression -> variants; a variant: facial action -> range at full strength
    neutral=[{}],
    happiness=[dict(_smile, mouth_curve=(.9,1.2), lid_lower=(.4,.8), mouth_open=(.3,.5), teeth_upper=(1,1)),
        dict(_smile, mouth_curve=(1,1.3), lid_lower=(.5,.8))],
    surprise=[dict(brow_inner=(.9,1.1), brow_outer=(.9,1.1), lid_upper=(.8,1), mouth_open=(.7,1), mouth_width=(-.55,-.4), jaw=(.8,1.1))],
    sadness=[dict(brow_inner=(.8,1), brow_outer=(-.6,-.4), brow_pinch=(.3,.5), lid_upper=(-.5,-.3), gaze_y=(.3,.6), mouth_curve=(-1.1,-.8),
        mouth_width=(-.2,0), lip_pout=(.6,1))],
    anger=[dict(_angry, lid_upper=(.2,.4), nose_wrinkle=(.1,.25), mouth_curve=(-.6,-.4), mouth_width=(-.1,.05), lip_press=(.7,1)),
        dict(_angry, lid_upper=(.3,.5), nose_wrinkle=(.2,.4), jaw=(.1,.3), mouth_curve=(-.5,-.3), mouth_width=(.05,.25), mouth_open=(.35,.5),
            mouth_square=(.8,1), teeth_upper=(1,1), teeth_lower=(1,1))],
    disgust=[dict(_disgusted, brow_inner=(-.55,-.35), lid_lower=(.7,.9), lip_raise=(.9,1.1), mouth_curve=(-.6,-.4), mouth_open=(.15,.25),
            teeth_upper=(.8,1), lip_pout=(.2,.5)),
        dict(_disgusted, brow_inner=(-.5,-.3), lid_lower=(.7,1), lip_raise=(.7,1), mouth_curve=(-.7,-.5), mouth_width=(0,.15),
            mouth_open=(.2,.3), tongue=(.9,1.1))],
    fear=[dict(brow_inner=(.8,1), brow_outer=(-.1,.1), brow_pinch=(.6,.9), lid_upper=(.9,1.1), gaze_x=(-.4,.4), mouth_curve=(-.6,-.4),
        mouth_width=(.3,.5), mouth_open=(.35,.55), mouth_square=(.8,1), teeth_lower=(.8,1), teeth_upper=(.6,1), jaw=(.3,.5))],
    contempt=[dict(smirk=(1,1.3), lid_upper=(-.55,-.4), gaze_x=(.4,.7), brow_single=(.6,1), brow_inner=(-.2,0), lip_press=(.3,.5))])

_sided = ("gaze_x", "smirk", "brow_single") # mirrored for half of the faces
_signed = (*_sided, "gaze_y", "brow_inner", "brow_outer", "lid_upper", "lid_lower", "mouth_curve", "mouth_width") # may be negative

def draw_actions(rng:np.random.Generator, expression:str, strength:float)->dict: # facial action -> value
    "Facial actions of `expression` (a name of EMOTIONS) at `strength` (0 = at rest, 1 = full)."
    ranges, side = EXPRESSIONS[expression][rng.integers(len(EXPRESSIONS[expression]))], rng.choice([-1,1])
    rest = dict(zip(ACTIONS, rng.normal(0, 1, len(ACTIONS))*[.06 if o[:4] == "brow" or o == "mouth_curve" else .02 for o in ACTIONS], strict=True))
    acts = {k: o + strength*rng.uniform(*ranges.get(k, (0,0))) for k,o in rest.items()}
    return {k: float(o*side if k in _sided else o if k in _signed else max(0., o)) for k,o in acts.items()}

SKIN = ((255,224,204), (247,205,176), (236,184,148), (218,160,118), (190,128,88), (156,100,68), (124,80,56), (98,66,50)) # light to dark
HAIR = dict(black=(34,28,28), brown=(74,48,34), chestnut=(112,66,38), blond=(206,164,96), red=(158,74,38), grey=(150,148,148),
            white=(218,214,208)) # RGB, as everywhere here
EYES = dict(brown=(92,58,34), dark=(54,36,26), hazel=(128,100,52), green=(84,124,82), blue=(84,130,176), grey=(118,134,142))
HAIR_STYLES = ("bald", "short", "parted", "curly", "long", "fringe", "bun", "hat")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
GLASSES = ("none", "round", "square")

def draw_look(rng:np.random.Generator)->dict: # look parameter -> value
    "A random person: head, skin, hair, eyes, beard, glasses, age; lengths as multiples of the average."
    def pick(names, p): return str(rng.choice(list(names), p=p))
    age, skin, man, n = rng.uniform(0,1), rng.uniform(0,1)**1.3, rng.random() < .5, rng.normal(0,1,8)
    grey, dark = rng.random() < 2*(age - .65), skin > .45
    hair = pick(HAIR, [0,0,0,0,0,.5,.5] if grey else [.6,.33,.05,.01,.01,0,0] if dark else [.2,.28,.22,.19,.11,0,0])
    style = pick(HAIR_STYLES, [.14,.4,.2,.12,.04,0,0,.1] if man else [0,.08,.12,.15,.3,.18,.12,.05])
    beard = pick(BEARDS, [.45,.2,.1,.08,.17]) if man and age > .15 else "none"
    eyes = pick(EYES, [.35,.6,.05,0,0,0] if dark else [.26,.12,.16,.14,.2,.12])
    return dict(skin=skin, age=age, hair=hair, hair_style=style, beard=beard, eyes=eyes, glasses=pick(GLASSES, [.8,.1,.1]),
        makeup=0. if man else rng.beta(1,2), head_width=1+.045*n[0], jaw_width=(1.03 if man else .97)+.05*n[1],
        eye_size=1+.07*n[2], eye_gap=1+.04*n[3], brow_thick=(1.15 if man else .85)+.12*n[4],
        nose_size=1+.09*n[5], lip_full=max(.5, (.95 if man else 1.15)+.15*n[6]), mouth_size=1+.06*n[7])

def draw_pose(rng:np.random.Generator)->dict: # pose parameter -> value
    "A random pose; normal deviates, cut off where a face detector would give up."
    def normal(sd, most): return float(np.clip(rng.normal(0,sd), -most, most))
    return dict(rotation=normal(9,30), yaw=normal(13,35), shift_x=normal(.025,.07), shift_y=normal(.025,.07), zoom=math.exp(normal(.07,.2)))

def draw_photo(rng:np.random.Generator, size:int|None=None)->dict: # photo parameter -> value
    "A random image: `size` (side in pixels, None: random), light from `light_angle` (degrees, 90 = above), exposure, warmth, blur (sd, pixels), noise (sd, of 255)."
    usual, large = 105*math.exp(rng.normal(0,.62)), rng.uniform(500,1200)
    drawn = int(large if rng.random() < .005 else min(max(usual,23),1200))
    size = drawn if size is None else int(size)
    noise = min(10., rng.exponential(4)*min(1, 60/size))*(rng.random() < .5) # half of the cameras are good
    blur = min(1.2, rng.exponential(.35))*max(1, size/110)**.5
    return dict(size=size, light_angle=rng.uniform(0,360), light=rng.beta(2,2.5), exposure=math.exp(rng.normal(0,.1)),
        warmth=rng.normal(0,.04), blur=blur, noise=float(noise) if noise >= 1 else 0., texture=int(rng.integers(2**31)))

VIEW = 1.13 # half an image's side at zoom 1, in face units
FRONT = np.nan # depth of what is on the front of the head

@lru_cache
def _spline(m, n, closed): # matrix: m points -> the points of the Catmull-Rom curve through them
    e = np.eye(m)
    e = np.concatenate([e[-1:], e, e[:2]]) if closed else np.concatenate([2*e[:1]-e[1:2], e, 2*e[-1:]-e[-2:-1]])
    t = np.linspace(0, 1, n, endpoint=False)[None,:,None]
    a, b, c, d = (e[i:len(e)-3+i][:,None] for i in range(4))
    q = (.5*(2*b+(c-a)*t+(2*a-5*b+4*c-d)*t**2+(3*b-a-3*c+d)*t**3)).reshape(-1,m)
    return q if closed else np.concatenate([q, e[-2:-1]])

def curve(pts:np.ndarray|list, closed:bool=False, n:int=6)->np.ndarray: # (N,2) float64, face units
    "The smooth (Catmull-Rom) curve through `pts` ((M,2), face units), `n` points for each stretch."
    return _spline(len(pts), n, closed)@np.asarray(pts, float)

@lru_cache
def _circle(n):
    t = np.linspace(0, 2*np.pi, n, endpoint=False)
    return np.stack([np.cos(t), np.sin(t)], 1)

def oval(x:float, y:float, rx:float, ry:float, n:int=24)->np.ndarray: # (n,2) float64, face units
    "Points of an ellipse with the centre (x, y) and the half axes `rx` and `ry`, face units."
    return _circle(n)*(rx,ry)+(x,y)

def _mix(a, b, t): return np.asarray(a, float)*(1-t)+np.asarray(b, float)*t
def _between(x, a, b): return np.concatenate([np.stack([x,a],1), np.stack([x,b],1)[::-1]]) # what lies between two lines over x
def _left(right): return [(-x,y) for x,y in right[::-1]] # the mirror image of half an outline, in the order that goes on from it

class _Canvas: # a square RGB image drawn on in face units; `mask` is what was filled with solid=True
    def __init__(self, side, p): # pixels; rotation, yaw (degrees), shift_x, shift_y (image sides), zoom
        self.img, self.mask, self.side = Image.new("RGB", (side,side)), Image.new("L", (side,side)), side
        self.pen, self.mask_pen = ImageDraw.Draw(self.img, "RGBA"), ImageDraw.Draw(self.mask)
        a, k = math.radians(p.rotation), p.zoom*side/2/VIEW
        self.turn, self.origin = (k*math.cos(a), k*math.sin(a)), (side*(.5+p.shift_x), side*(.5+p.shift_y))
        self.sin, self.cos = math.sin(math.radians(p.yaw)), math.cos(math.radians(p.yaw))

    def place(self, pts, z): # (N,2) points in face units, their depth -> (N,2) pixels: turned by yaw, then rotated, zoomed and shifted
        (x, y), (c, s), (x0, y0) = pts.T, self.turn, self.origin
        if z is FRONT: x = x*self.cos+.62*np.sqrt(np.maximum(0, 1-(x/.9)**2-(y/1.3)**2))*self.sin-.12*self.sin
        else: x = x+z*self.sin-.12*self.sin # outlines keep their width: a head is round
        return np.stack([x0+x*c+y*s, y0+y*c-x*s], 1).round(2) # rounded: the same on every processor

    def fill(self, pts, colour, alpha=1., z=FRONT, solid=False, side=1, half=None): # a polygon, or a line of (N,) half widths; side -1: mirrored
        if alpha < .02: return
        pts = np.asarray(pts, float)*(side,1)
        if half is not None:
            d = np.concatenate([pts[1:2]-pts[:1], pts[2:]-pts[:-2], pts[-1:]-pts[-2:-1]])
            off = d[:,::-1]*(-1,1)*(half/(np.hypot(*d.T)+1e-9))[:,None] # along the normal
            pts = np.concatenate([pts+off, (pts-off)[::-1]])
        xy = self.place(pts, z).ravel().tolist()
        self.pen.polygon(xy, fill=tuple(round(float(min(max(o, 0), 255))) for o in (*colour, 255*alpha)))
        if solid: self.mask_pen.polygon(xy, fill=255)

    def stroke(self, pts, width, colour, alpha=1., z=FRONT, ends=(.25,.25), side=1): # a line that tapers to these shares of `width`
        self.fill(pts, colour, alpha, z, side=side, half=_taper(len(pts),ends)*width)

    def line(self, pts, *args, **kwargs): self.stroke(curve(pts), *args, **kwargs)
    def shape(self, pts, *args, **kwargs): self.fill(curve(pts, closed=True), *args, **kwargs)

@lru_cache
def _taper(n, ends): # half widths along a line of n points
    t = np.linspace(0, 1, n)
    left, right = (end+(1-end)*np.sin(np.pi*half(t,.5)) for end,half in zip(ends, (np.minimum, np.maximum), strict=True))
    return .5*np.where(t<.5, left, right)

def _outline(p): # outline of the head, clockwise from the crown, and its depth: the chin stands further forward than the ears
    w, j, drop = .73*p.head_width, .55*p.jaw_width*p.head_width, .1*p.jaw
    right = [(.36,-.94), (.6*p.head_width,-.72), (w*.985,-.36), (w,0), (w*.955,.26), (j*1.03,.58+drop*.4), (j*.66,.85+drop), (.16,.98+drop)]
    pts = curve([(0,-1), *right, (0,1+drop), *_left(right)], closed=True, n=8)
    return pts, .3*np.clip(pts[:,1], 0, 1)

def _tone(p): # skin colour, higher than it will look: light only darkens it
    f = min(max(p.skin,0),1)*(len(SKIN)-1)
    i = min(int(f), len(SKIN)-2)
    tone = _mix(SKIN[i], SKIN[i+1], f-i)
    return tone*min(1.15, 255/tone.max())

def _backdrop(c, p, rng): # a blurred background and clothes
    base = rng.uniform(30,225,3)*.3+rng.uniform(40,210)*.7
    field = np.clip(base+rng.normal(0,22,(4,4,1))+rng.normal(0,9,(4,4,3)), 0, 255).astype(np.uint8)
    c.img.paste(Image.fromarray(field).resize((32,32), Image.BICUBIC).resize(c.img.size, Image.BILINEAR))
    cloth, neck = rng.uniform(20,220,3), [(1.9,2.2),(1.5,1.35),(.75,1.14),(.36,1.02)]
    c.fill(curve([*_left(neck)[::-1], *neck[::-1]]), cloth, z=-.3)
    c.fill(curve([(-.36,1.02),(0,1.32),(.36,1.02)]), cloth*.7, z=-.25)

def _head(c, p): # neck, ears and head in flat colour
    w = p.head_width
    for s in (-1,1):
        c.shape([(.70*w,-.2),(.80*w,-.24),(.86*w,-.1),(.82*w,.12),(.75*w,.24),(.68*w,.2)], p.tone*.94, z=-.06, solid=True, side=s)
        c.line([(.755*w,-.14),(.815*w,-.12),(.79*w,.06)], .025, p.tone*.62, .6, z=-.06, side=s)
    c.fill([(-.4,.4),(-.4,.9),(-.46,1.12),(0,1.34),(.46,1.12),(.4,.9),(.4,.4)], p.tone*.7, z=-.1, solid=True)
    pts, z = _outline(p)
    c.fill(pts, p.tone, z=z, solid=True)

def _light(c, p): # (side,side) how bright a rounded head is; 1 = turned to the light
    a, k, g = math.radians(p.rotation), p.zoom/VIEW, (np.arange(c.side)+.5)/c.side*2-1
    u, v = (g[None,:]-2*p.shift_x)/k, (g[:,None]-2*p.shift_y)/k
    nx, ny = (u*math.cos(a)-v*math.sin(a)-.18*c.sin)/.86, (u*math.sin(a)+v*math.cos(a))/1.22 # undo shift, zoom and rotation
    nz, lamp = np.sqrt(np.clip(1-nx**2-ny**2, .02, 1)), math.radians(p.light_angle)-a
    lit = (nx*math.cos(lamp)-ny*math.sin(lamp))*(.35+.5*p.light)+nz*.8
    return np.clip(.80+.30*(lit-.62), .42, 1)

_redden = [[round(255*(i/255)**g) for i in range(256)] for g in (.8,1,1.12)] # tables for red, green, blue

def _shade(c, p): # multiply the head by light and soft shadows
    s = _Canvas(96, p)
    lit = Image.fromarray((255*_light(s,p)).astype(np.uint8))
    s.img.paste(Image.merge("RGB", [lit.point(o) for o in _redden])) # skin reddens in the shade
    for f in (_soft_features, _soft_folds, _soft_beard): f(s, p)
    soft = s.img.filter(ImageFilter.GaussianBlur(.9)).resize(c.img.size, Image.BILINEAR)
    c.img.paste(ImageChops.multiply(c.img, soft), mask=c.mask)

def _soft_features(s, p): # shadows and blush that every face has
    dark, blush, white = (150,104,96), _mix((255,150,140), (255,120,120), p.makeup), (255,255,255)
    for side in (-1,1):
        s.fill(oval(.33*p.eye_gap,-.12,.22,.13), dark, .22, side=side)
        s.shape([(.05,-.1),(.12,.05),(.15,.25),(.07,.26),(.03,0)], dark, .16, side=side)
        s.fill(oval(.4,.24-.06*p.cheek,.17,.12), blush, .16+.06*p.makeup+.1*p.cheek, side=side)
    for x,y,rx,ry,colour,alpha in ((0,.335,.15*p.nose_size,.03,dark,.5), (0,.78+.06*p.jaw,.17,.045,dark,.3), # under nose and lip
            (0,-.02,.035,.2,white,.45), (0,.22,.06,.06,white,.5)): # light on the nose
        s.fill(oval(x,y,rx,ry), colour, alpha)

def _soft_folds(s, p): # folds that actions and years leave
    deep, old, up = (118,70,64), max(0, p.age-.45), .05*p.lip_raise+.03*p.cheek
    frown = .4*p.brow_pinch+(.75*p.brow_pinch if p.brow_inner<0 else 0)
    for side in (-1,1):
        fold = .18+.5*old+.6*max(0,p.mouth_curve)+.7*p.nose_wrinkle+.6*p.lip_raise+.75*max(0,p.smirk*side)
        for pts,width,alpha in (
                ([(.14,.24-up),(.24,.33-up),(.33+.03*p.mouth_width,.48)], .05, min(.85,fold)), # nose to mouth
                ([(.2,.09),(.33,.13-.04*p.cheek),(.48,.06-.05*p.cheek)], .045, min(.6,.1+.4*old+.28*p.cheek)), # under the eye
                *(([(.53,-.07+dy*.5),(.64,-.07+dy*1.6)], .025, min(.6,.6*old+.4*max(0,p.cheek-.3))) for dy in (-.06,0,.06)), # crow's feet
                *(([(.04,-.13+.09*k),(.1,-.08+.09*k),(.13,.09*k)], .035, min(.8,.75*p.nose_wrinkle)) for k in range(3)),
                ([(.05,-.4),(.045,-.31),(.06,-.2)], .035, min(.85,.2*old+frown))):
            s.line(pts, width, deep, alpha, side=side)
    for x,y in ((-.08,.84),(.07,.85),(0,.89),(-.04,.8),(.05,.81)): s.fill(oval(x,y,.02,.02), deep, min(.6,.5*p.lip_pout)) # dimpled chin

def _soft_beard(s, p): # beard, and the shadow of shaved hair: soft at the edge
    h, w, chin, pts = HAIR[p.hair], .25*p.mouth_size*(1+.35*p.mouth_width)+.06, .1*p.jaw, _outline(p)[0]
    alpha = dict(none=0,stubble=.28,moustache=.9,goatee=.9,full=.92)[p.beard]
    if p.hair_style == "bald":
        low, high = [(.4,-.7),(.64,-.5),(.74,-.2)], [(.6,-.95),(0,-1.1),(-.6,-.95)]
        s.shape([*_left(low), (0,-.78), *low, *high], h, .12 if p.age>.5 else .3)
    if p.beard in ("stubble","full"):
        inner = curve([(-.62,.1),(-.54,.34),(-w-.04,.43),(-.1,.40),(.1,.40),(w+.04,.43),(.54,.34),(.62,.1)])
        s.fill(np.concatenate([inner, pts[pts[:,1]>.08]*(1.02,1.03)]), h, alpha)
    if p.beard in ("moustache","goatee"): s.shape([(-w,.5),(-.12,.4),(0,.42),(.12,.4),(w,.5),(.1,.5),(-.1,.5)], h, alpha)
    if p.beard == "goatee": s.shape([(-.14,.74),(0,.72),(.14,.74),(.17,.95+chin),(0,1.02+chin),(-.17,.95+chin)], h, alpha)

def _eye(c, p, side): # eyeball, iris, pupil, lids, lashes
    t = np.linspace(0, 1, 25)
    x, y, arch = .325*p.eye_gap+.165*p.eye_size*(2*t-1), -.09+.012*(1-2*t), np.sin(np.pi*t**.9)**.75
    smile = .25*p.cheek if p.mouth_curve > 0 else 0
    rise = .082*p.eye_size*max(.1, 1+.62*p.lid_upper-.12*max(0,-p.brow_inner)-smile)
    fall = .062*p.eye_size*(1-.85*min(1.25,p.lid_lower)+.25*max(0,p.lid_upper))
    hood = .03*max(0,-p.lid_upper)*np.maximum(0,t-.4)*(p.brow_inner>0) # sad eyes droop outside
    up, crease = y-rise*arch+hood, y-(.082*p.eye_size*max(1,1+.5*p.lid_upper)+.035)*arch**.9
    lo = np.maximum(y+fall*np.sin(np.pi*t)**.85, up+.008)
    c.fill(_between(x, crease,up), p.tone*.86, .75, side=side)
    c.fill(_between(x, up,lo), _mix((244,240,236), p.tone, .06), side=side)
    ix, iy, r, iris = .325*p.eye_gap+side*.07*p.gaze_x, -.1+.035*p.gaze_y, .078*p.eye_size, np.array(EYES[p.eyes], float)
    for dx,dy,rad,n,colour,alpha in ((0,0,r,24,iris*.55,1.), (0,0,r*.84,24,iris,1.), (0,0,r*.45,24,(14,10,10),1.), # iris and pupil
            (side*.028,-.03,r*.24,12,(255,255,255),.95)): # glint
        at, down = oval(ix+dx,iy+dy,rad,rad,n).T
        c.fill(np.stack([at, np.clip(down, np.interp(at,x,up), np.interp(at,x,lo))], 1), colour, alpha, side=side) # what the lids leave of it
    c.fill(_between(x, up, np.minimum(up+.022,lo)), (40,20,20), .3, side=side) # the lid's shadow
    lash = _mix(np.minimum(p.tone*.3, HAIR[p.hair]), (12,8,8), .5+.5*p.makeup)
    for ys,width,colour,alpha,ends in ((up,.03+.014*p.makeup,lash,.95,(.4,.9)), (lo,.014,_mix(p.tone*.45,lash,.4),.75,(.25,.25)),
            (crease,.014,p.tone*.5,.6,(.25,.25))):
        c.stroke(np.stack([x,ys],1), width, colour, alpha, ends=ends, side=side)
    if p.makeup > .3: c.stroke([(x[-1]-.01,up[-1]),(x[-1]+.035,up[-1]-.03)], .02, lash, side=side)

def _brow(c, p, side):
    single = max(0, p.brow_single*side)
    inner, outer = p.brow_inner+.45*single, p.brow_outer+.9*single
    mid, y = .5*inner+.55*outer+.2*single, -.285
    pts = [(.115-.05*p.brow_pinch,y-.125*inner+.01), (.28-.03*p.brow_pinch,y-.035-.11*mid), (.43,y-.03-.115*outer-.02*max(0,outer)),
           (.545,y+.035-.10*outer)]
    colour = _mix(HAIR[p.hair], (60,60,60), .35) if p.hair in ("white","grey") else _mix(HAIR[p.hair], (30,22,20), .45)
    c.line(pts, .062*p.brow_thick, colour, .92, ends=(.75,.12), side=side)

def _nose(c, p): # wings and nostrils
    n, wide, up, line = p.nose_size, 1+.22*p.nose_wrinkle, .035*p.nose_wrinkle, p.tone*.55
    for s in (-1,1):
        c.fill(oval(.062*n*wide,.292-up,.034*n*wide,.019*n*(1+.4*p.nose_wrinkle),14), p.tone*.3, .85, side=s)
        c.line([(.10*n*wide,.19-up),(.148*n*wide,.245-up),(.125*n*wide,.30-up)], .022, line, .75, side=s)
    c.line([(-.03,.325-up),(0,.335-up),(.03,.325-up)], .018, line, .5)

def _wrinkles(c, p): # lines of the forehead, between the brows, on the nose, from nose to mouth
    line, w = p.tone*.55, min(.9, .85*p.nose_wrinkle)
    cheek = .75*p.nose_wrinkle+.2*p.lip_raise+.45*max(0,p.mouth_curve)+.4*max(0,p.age-.6)
    frown = .85*p.brow_pinch*min(1,.3-2*p.brow_inner) if p.brow_inner < 0 else 0
    fold = [(.135*p.nose_size,.2-.035*p.nose_wrinkle), (.23,.28-.05*p.lip_raise), (.34+.03*p.mouth_width,.47), (.335,.54)]
    for s in (-1,1):
        for k in range(2): c.line([(.05,-.06+.08*k),(.105,-.02+.08*k),(.135,.06+.08*k)], .02, line, w, side=s)
        c.line(fold, .026, line, min(.85,cheek), side=s)
        c.line([(.05,-.42),(.035,-.33),(.052,-.22)], .022, line, min(.9,frown), side=s)
    for k in range(2): c.line([(-.065,-.1+.055*k),(0,-.125+.055*k),(.065,-.1+.055*k)], .02, line, w)
    raised = max(.5*max(0,p.brow_inner)+.2*max(0,p.brow_outer), .7*max(0,p.age-.5))
    for k in range(3):
        y, bend = -.47-.03*max(0,p.brow_outer)-.065*k, .03+.05*p.brow_pinch*max(0,p.brow_inner)
        c.line([(-.36,y+.01),(-.16,y-.025),(0,y-.025+bend),(.16,y-.025),(.36,y+.01)], .018, line, min(.75,raised))

def _lips(p, n=41): # x, then y of outer upper, inner upper, inner lower, outer lower edge
    t = np.linspace(-1, 1, n)
    smile, one = min(1,max(0,p.mouth_curve)), np.clip(t*np.sign(p.smirk), 0, 1)
    x = t*.25*p.mouth_size*(1+.45*p.mouth_width)*(1-.12*p.lip_pout)+.05*p.smirk*one
    y = .555+.02*p.jaw-.02*p.lip_raise-.13*p.mouth_curve*(np.abs(t)**1.8-.4)-.025*p.lip_pout*(1-t**2)
    y, box = y-abs(p.smirk)*(.15*one**1.4-.015*(1-one)), min(1.5,max(0,p.mouth_square))
    gap = np.clip(1-np.abs(t)**(2+4*box), 0, 1)**(.62-.15*box)
    up = y-(.075*p.lip_raise*(1-.55*np.abs(t)**2)+.1*p.mouth_open*(1-.75*smile))*gap
    lo = y+.29*p.mouth_open*(1-.25*smile)*gap
    full, bow = p.lip_full*(1-.62*min(1,p.lip_press)), (1-t**2)**.7
    return x, up-.055*full*(1-.3*smile)*bow*(1-.28*np.exp(-(t/.13)**2)), up, lo, lo+.075*full*(1-.25*smile+.35*p.lip_pout)*bow

def _mouth(c, p):
    x, ou, up, lo, ol = _lips(p)
    lips, t = _mix(_mix(p.tone*.8, (196,84,84), .42), (176,34,56), .7*p.makeup), np.linspace(-1,1,len(x))
    c.fill(_between(x, ou,up), lips*.84)
    c.fill(_between(x, lo,ol), lips)
    c.stroke(np.stack([x,lo+(ol-lo)*.45],1)[8:-8], .02, lips*1.35, .45)
    if (lo-up).max() <= .015: c.stroke(np.stack([x,(up+lo)/2],1), .026, p.tone*.28, .9)
    else: # teeth and tongue
        c.fill(_between(x, up,lo), (66,16,22))
        if p.tongue < .3: c.fill(_between(x, np.maximum(up, lo-.1*np.clip(1-(t/.75)**2,0,1)*min(1,5*(lo-up).max())), lo), (186,72,80))
        a, b = np.minimum(up+.085*min(1,p.teeth_upper)*(1-.25*t**2), lo), np.maximum(lo-.065*min(1,p.teeth_lower), up)
        for show,top,bottom,shine in ((p.teeth_lower,b,lo,.93), (p.teeth_upper,up,a,1)):
            if show < .1: continue
            c.fill(_between(x, top,bottom), np.array((246,240,228.))*shine)
            for i in range(4, len(x)-4, 4): c.stroke([(x[i],top[i]),(x[i],bottom[i])], .008, (120,90,84), .5, ends=(1,1))
        if p.tongue >= .3: # over the lower lip
            y = lo[len(lo)//2]
            top, tip, w = .5*(up.min()+y), y+.2*p.tongue, .12
            c.shape([(-w,top),(-w*1.02,y),(-w*.75,tip-.03),(0,tip+.02),(w*.75,tip-.03),(w*1.02,y),(w,top)], (206,84,92))
            c.line([(0,top+.03),(.008,y),(0,tip-.05)], .02, (150,48,58), .7)
        c.stroke(np.stack([x,up],1), .016, (70,20,24), .6)
    if p.tongue < .3: c.stroke(np.stack([x,ol+.012],1)[8:-8], .02, p.tone*.5, .35)
    for s,i in ((-1,0),(1,-1)): # corners
        tight, at = max(0, p.smirk*s), np.array([x[i],(up[i]+lo[i])/2])
        d = np.array([.02*s,-.045]) if p.mouth_curve > .3 or tight else np.array([.025*s,.04*(p.mouth_curve<-.2)])
        c.line([at-d*.9, at+(.012*s,0), at+d], .022+.01*tight, p.tone*.42, min(.9,.35+.5*abs(p.mouth_curve)+.6*tight))

def _back_hair(c, p, rng): # behind the head
    h, w = np.array(HAIR[p.hair], float)*.72, .74*p.head_width
    if p.hair_style in ("long","fringe"):
        right = [(.55,-1.02),(w+.14,-.5),(w+.2,.2),(w+.22,.9),(w+.1,1.5)]
        c.shape([(0,-1.12), *right, *_left(right)], h, z=-.15)
    if p.hair_style == "bun": c.fill(oval(0,-1.13,.26,.24), h, z=-.3)
    if p.hair_style == "curly":
        for a in math.pi*(1.12-1.24*np.linspace(0,1,15)):
            c.fill(oval((w+.04)*1.02*math.cos(a), -.12-.95*math.sin(a), *rng.uniform(.2,.27,2)), h*rng.uniform(.9,1.05), z=-.12)

def _front_hair(c, p, rng): # over the forehead: hair with a few strands, or a hat
    w, high, hat = .74*p.head_width, .1*max(0,p.age-.5), p.hair_style == "hat"
    half = dict(short=[(-w,-.12),(-w*.9,-.36),(-.5,-.62-high),(-.2,-.68-high)], long=[(-w*1.02,.3),(-w*.9,-.2),(-.5,-.58),(0,-.86)],
        fringe=[(-w*1.02,.35),(-w*.92,-.2),(-.56,-.44),(-.2,-.5)], bun=[(-w,-.1),(-w*.9,-.4),(-.48,-.66),(0,-.74)],
        curly=[(-w,-.05),(-w*.9,-.34),(-.5,-.6),(-.2,-.63)], hat=[(-w*1.04,-.42),(-.5,-.56),(0,-.6)]).get(p.hair_style, [])
    line = [*half, *_left([o for o in half if o[0]])] # where the front hair begins, from one temple to the other
    if p.hair_style == "parted": line = [(-w,-.05),(-w*.93,-.34),(-.52,-.56),(-.3,-.80),(.05,-.64),(.45,-.52),(w*.93,-.34),(w,-.05)]
    if not line: return
    w, g, y0 = w+.035, .09 if p.hair_style in ("curly","hat") else .06, line[0][1]
    h = rng.uniform(20,200,3) if hat else np.array(HAIR[p.hair], float)
    left = [(-w-.01,y0), (-w,-.42 if y0>-.42 else y0-.1), (-.62*p.head_width-.04,-.76), (-.36,-.97-g*.6)]
    low, top = curve(line), curve([*left, (0,-1.02-g), *_left(left)])
    deep = .25*np.clip(1-np.abs(low[:,0])/w, 0, 1)
    c.fill(np.concatenate([top, low[::-1]]), h, z=np.concatenate([np.full(len(top),-.05), deep[::-1]]))
    if hat: return c.fill(np.concatenate([low, (low-(0,.17))[::-1]]), h*.75, z=np.concatenate([deep,deep[::-1]])*.6)
    for k in range(9): # strands
        f = min(max((k+.5)/9+rng.uniform(-.03,.03), .06), .94)
        a, b = top[int(f*(len(top)-1))], low[int(f*(len(low)-1))]
        c.line([a*.96, (a+b)/2+rng.normal(0,.02,2), b], .03, h*1.35+12 if k%2 else h*.7, .35, z=.05)
    for x,y in low[3:-3:4] if p.hair_style == "curly" else (): c.fill(oval(x,y-.06,.1,.09,14), h*rng.uniform(.9,1.15), z=.1)

def _glasses(c, p):
    if p.glasses == "none": return
    frame, g = dict(colour=(32,28,30), alpha=.95, ends=(1,1)), p.eye_gap
    square = [(.11*g,-.2),(.33*g,-.225),(.55*g,-.2),(.56*g,0),(.48*g,.1),(.2*g,.1),(.1*g,0)]
    ring = oval(.33*g,-.06,.235,.2,40) if p.glasses == "round" else curve(square, closed=True)
    for s in (-1,1):
        c.fill(ring, (225,235,245), .1, side=s)
        c.stroke(np.concatenate([ring,ring[:1]]), .028, side=s, **frame)
        c.stroke([(.56*g,-.1),(.76*p.head_width,-.14)], .028, side=s, **frame)
    c.line([(-.11*g,-.1),(0,-.14),(.11*g,-.1)], .026, **frame)

def _develop(img, p, rng): # drawing -> original resolution, blurred, lit, noisy
    n = p.size
    img = img.reduce(img.width//n) if img.width%n == 0 else img.resize((n,n), Image.HAMMING if n < img.width else Image.BICUBIC)
    if p.blur > .2: img = img.filter(ImageFilter.GaussianBlur(p.blur))
    lamp, g = math.radians(p.light_angle), np.linspace(-1, 1, n, dtype=np.float32)
    gain = p.exposure*(1+.24*p.light*(g[None,:]*math.cos(lamp)-g[:,None]*math.sin(lamp)))
    x = np.asarray(img, np.float32)*gain[...,None]*np.array([1+p.warmth, 1, 1-p.warmth], np.float32)
    if p.noise: x += rng.standard_normal((n,n,3), dtype=np.float32)*np.float32(p.noise)
    return Image.fromarray(np.clip(x, 0, 255).astype(np.uint8))

def render(p:dict # every drawing parameter, as in a row of faces.csv
          )->Image.Image: # RGB, size x size pixels
    "Draw the face that `p` describes."
    p = SimpleNamespace(**p)
    rng, p.tone = np.random.default_rng(int(p.texture)), _tone(p)
    c = _Canvas(p.size*max(math.ceil(128/p.size), 2) if p.size <= 280 else 560, p)
    for part in (_backdrop, _back_hair): part(c, p, rng)
    for part in (_head, _shade, _nose, _wrinkles, _mouth): part(c, p)
    for side in (-1,1):
        _eye(c, p, side)
        _brow(c, p, side)
    _front_hair(c, p, rng)
    _glasses(c, p)
    return _develop(c.img, p, rng)

def face_params(expression:str, # a name of EMOTIONS
                strength:float=1., # 0 = at rest, 1 = full
                size:int|None=None, # side in pixels; None = random
                seed:int|tuple=0 # int, or a sequence of ints
               )->dict: # every drawing parameter
    "Random parameters of one face."
    expression = emotion(expression)
    acts, look, pose, photo = (np.random.default_rng([k, *np.atleast_1d(seed).tolist()]) for k in range(4))
    strength = 0. if expression == "neutral" else float(strength)
    return dict(expression=expression, strength=strength, **draw_photo(photo, size), **draw_pose(pose), **draw_look(look),
        **draw_actions(acts, expression, strength))

_choices = dict(hair=tuple(HAIR), hair_style=HAIR_STYLES, eyes=tuple(EYES), beard=BEARDS, glasses=GLASSES)

def draw_face(expression:str="neutral", # a name of EMOTIONS
              strength:float=1., # 0 = at rest, 1 = full; up to 1.2 still looks human
              size:int=96, # side of the image in pixels, 8 to 4096
              seed:int=0, # which person, pose and image
              **overrides # any other parameter, by name: yaw=20, glasses="round", mouth_open=.5, noise=0 ...
             )->Image.Image: # RGB, size x size pixels
    "Draw one face."
    if not 8 <= size <= 4096: raise ValueError(f"size must lie in 8 to 4096 pixels, got {size}.")
    if not 0 <= strength <= 1.5: raise ValueError(f"strength must lie in 0 to 1.5 (1 = full), got {strength}.")
    p = face_params(expression, strength, size, seed)
    for k,v in overrides.items():
        if k not in p: raise ValueError(f"a face has no parameter {k!r}; it has {', '.join(list(p)[3:])}.")
        if k in _choices and v not in _choices[k]: raise ValueError(f"{k} must be one of {', '.join(_choices[k])}; got {v!r}.")
    return render({**p, **overrides})

def vote_probabilities(expression:str, # shown expression
                       strength:float # 0 = at rest, 1 = full
                      )->np.ndarray: # (8,) float64 in the order of EMOTIONS, sums to 1
    "Probability of each vote of one annotator."
    rows, k = prior(dtype=np.float64), EMOTIONS.index(expression)
    clear = min(1, max(0, (strength-.35)/.65)) if k else .5 # a face at rest is neither strong nor weak
    p = rows[k]**(1+clear)
    return (1-.35*(1-clear))*p/p.sum()+.35*(1-clear)*rows[0]/rows[0].sum()

CLASS_MIX = dict(neutral=.14, happiness=.14, surprise=.13, sadness=.13, anger=.12, disgust=.12, fear=.11, contempt=.11) # share of the faces
SPLIT_NAMES = dict( # folder and Usage in FER+
    train=("FER2013Train","Training"), valid=("FER2013Valid","PublicTest"), test=("FER2013Test","PrivateTest"))

def _pick(shares, x): # the key in whose stretch of [0,1) `x` lies
    shares = {k: o for k,o in shares.items() if o > 0}
    return list(shares)[int(np.searchsorted(np.cumsum(list(shares.values()))[:-1], x, side="right"))]

def face_row(i:int, # number of the face
             seed:int=0, # seed of the set
             splits:tuple=(.7,.15,.15) # shares of train, valid and test
            )->tuple: # dict of path, split and every drawing parameter; (10,) list of votes in the columns of FER+
    "All there is to know about face `i`."
    rho, start, rng = 1.324717957244746, np.random.default_rng([seed]).random(2), np.random.default_rng([seed,i]) # rho**3 = rho + 1
    u = (start+i*np.array([1/rho, 1/rho**2])) % 1
    shown, split = _pick(CLASS_MIX, u[0]), _pick(dict(zip(SPLIT_NAMES, splits, strict=True)), u[1])
    p = face_params(shown, .35+.75*rng.beta(2.2,1.4), seed=(seed,i))
    votes = rng.multinomial(10, vote_probabilities(shown, p["strength"])).tolist()
    return dict(path=f"{SPLIT_NAMES[split][0]}/fer{i:07d}.png", split=split, **p), votes+[0,0] # nobody votes unknown or not-a-face

VERSION = 1 # of the drawing: raise it whenever the same seed gives other bytes
MARK = "synthetic.json"

def _write_face(i, root, seed, splits): # draw, vote, save; runs in a worker
    row, votes = face_row(i, seed, splits)
    render(row).save(Path(root)/row["path"], "PNG", compress_level=1)
    return row, votes

def _write_set(root, n, seed, splits, n_workers): # images, label.csv, fer2013new.csv, faces.csv
    for folder,_ in SPLIT_NAMES.values(): (root/folder).mkdir(parents=True)
    if n_workers is None: # elsewhere processes start anew, and every script would have to guard its main part
        n_workers = min(8, len(os.sched_getaffinity(0))) if sys.platform == "linux" and n >= 64 else 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning) # workers only draw: no threads, no torch
        rows, votes = zip(*parallel(_write_face, range(n), root=str(root), seed=seed, splits=splits, n_workers=n_workers, chunksize=16,
            method="fork" if n_workers and sys.platform == "linux" else None), strict=True)
    faces, votes = pd.DataFrame(rows), pd.DataFrame(votes, columns=[*EMOTIONS, "unknown", "NF"])
    votes.insert(0, "Image name", faces["path"].str.split("/").str[1])
    boxed = votes.copy()
    boxed.insert(1, "box", [f"(0, 0, {o}, {o})" for o in faces["size"]])
    for split,(folder,_) in SPLIT_NAMES.items():
        boxed[faces["split"] == split].to_csv(root/folder/"label.csv", index=False, header=False, lineterminator="\n")
    votes.insert(0, "Usage", [SPLIT_NAMES[o][1] for o in faces["split"]])
    votes.to_csv(root/"fer2013new.csv", index=False, lineterminator="\n")
    faces.to_csv(root/"faces.csv", index=False, lineterminator="\n")

def read_faces(file:str|Path # faces.csv of a synthetic set
              )->pd.DataFrame: # a row per face: path, split, then what `render` takes
    "Every drawing parameter of a set, exactly as it was drawn."
    d = pd.read_csv(file, dtype=str, keep_default_na=False)
    return d.astype({o: int if o in ("size","texture") else float for o in d if o not in ("path","split","expression",*_choices)})

def _read_set(dest): # the table of a finished set
    faces = read_faces(dest/"faces.csv")
    votes = pd.read_csv(dest/"fer2013new.csv")[list(EMOTIONS)]
    head = faces[["path","split"]].assign(label=votes.idxmax(axis=1), width=faces["size"], height=faces["size"])
    table = pd.concat([head, votes.div(votes.sum(axis=1), axis=0), faces.drop(columns=["path","split"])], axis=1)
    from psr_fer.data.table import FaceTable # here, because drawing needs no torch
    return FaceTable(table, Path(dest), dataset="synthetic", layout="FER+: synthetic faces")

def _is_there(dest, want, overwrite): # True: this very set is there; False: the place is free or may be overwritten
    if not dest.exists() or (dest.is_dir() and not any(dest.iterdir())): return False
    try: have = json.loads((dest/MARK).read_text())
    except (OSError, ValueError):
        raise ValueError(f"{dest} holds something other than faces drawn by psr_fer; name a new or an empty folder.") from None
    if overwrite: return False
    if have != want:
        differ = ", ".join(f"{k} {have.get(k)} instead of {want[k]}" for k in want if have.get(k) != want[k])
        raise ValueError(f"{dest} holds another set of faces ({differ}); name another folder or pass overwrite=True.")
    lost = [o for o in read_faces(dest/"faces.csv")["path"] if not (dest/o).is_file()]
    if lost: raise ValueError(f"{dest} lacks {len(lost)} of its {want['n']} pictures ({lost[0]} ...); pass overwrite=True to redraw them.")
    return True

def synthetic_faces(dest:str|Path, # folder of the data set, made here; its parent must be writable
                    n:int=1200, # faces
                    seed:int=0, # which faces
                    splits:tuple=(.7,.15,.15), # shares of train, valid and test
                    overwrite:bool=False, # replace another set of synthetic faces in `dest` (never anything else)
                    n_workers:int|None=None # processes; None = all processors, 0 = none
                   )->pd.DataFrame: # a row per face: table as in `psr_fer.data.table`, then every drawing parameter
    "Draw `n` faces into `dest` in the layout of FER+, or reuse them when they are there already."
    dest, splits = Path(dest).absolute(), [float(o) for o in splits]
    if n < 1 or n > 9_999_999: raise ValueError(f"n must lie in 1 to 9999999 faces, got {n}.")
    if seed < 0: raise ValueError(f"seed must be 0 or more, got {seed}.")
    if len(splits) != 3 or min(splits) < 0 or abs(sum(splits)-1) > 1e-6:
        raise ValueError(f"splits must be three shares (train, valid, test) that add up to 1, got {splits}.")
    want = dict(kind="psr_fer synthetic faces", version=VERSION, n=int(n), seed=int(seed), splits=splits)
    if _is_there(dest, want, overwrite): return _read_set(dest)
    dest.parent.mkdir(parents=True, exist_ok=True)
    tmp = Path(tempfile.mkdtemp(prefix=f".{dest.name}-", dir=dest.parent)) # a sibling: renaming needs the same file system
    try:
        _write_set(tmp/"new", int(n), int(seed), splits, n_workers)
        (tmp/"new"/MARK).write_text(json.dumps(want, indent=1)+"\n")
        if dest.exists(): dest.rename(tmp/"old")
        (tmp/"new").rename(dest)
    finally: shutil.rmtree(tmp, ignore_errors=True)
    return _read_set(dest)

def synthetic_dls(dest:str|Path, # folder of the faces, drawn on first use
                  n:int=1200, # faces
                  seed:int=0, # which faces
                  size:int|tuple=96, # pixels
                  bs:int=64, # faces per batch
                  soft:bool=True, # train against the votes
                  **kwargs # further arguments of `ferplus_dls`
                 )->object: # fastai DataLoaders: train, valid, test
    "The synthetic faces as fast DataLoaders, read by the reader of FER+."
    from psr_fer.data.ferplus import ferplus_dls # here, because drawing needs no torch
    synthetic_faces(dest, n, seed)
    return ferplus_dls(dest, size=size, bs=bs, soft=soft, **kwargs)
