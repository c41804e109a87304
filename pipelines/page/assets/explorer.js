// The explorer: one point of a source, and what of the target is like it. Points are in original pixels, (x, y).
const SHAPES = {
  ring: (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
  dot: (x, y, r) => SHAPES.ring(x, y, 0.8 * r),
  best: (x, y, r) => `M${x} ${y - 1.5 * r}V${y + 1.5 * r}M${x - 1.5 * r} ${y}H${x + 1.5 * r}`,
  predicted: (x, y, r) => `M${x} ${y - 1.3 * r}L${x + 1.3 * r} ${y}L${x} ${y + 1.3 * r}L${x - 1.3 * r} ${y}Z`,
};

class Explorer {
  constructor(pairs) {
    this.pairs = pairs;
    this.source = document.getElementById("source");
    this.target = document.getElementById("target");
    this.canvas = this.target.querySelector("canvas");
    this.held = false;
    this.waiting = false;
    this.listen();
    document.getElementById("ramp").style.background = `linear-gradient(to right, ${RAMP.map((c) => `rgb(${c})`)})`;
    this.show(0);
  }

  listen() {
    const choice = document.getElementById("pair");
    choice.addEventListener("change", () => this.show(Number(choice.value)));
    const strength = document.getElementById("strength");
    const cover = () => { this.canvas.style.opacity = strength.value / 100; };
    strength.addEventListener("input", cover);
    cover();
    for (const button of document.querySelectorAll("button.open")) {
      button.addEventListener("click", () => {
        choice.value = button.dataset.pair;
        this.show(Number(choice.value));
        document.getElementById("explorer").scrollIntoView();
        this.source.focus({ preventScroll: true });
      });
    }
    this.source.addEventListener("pointermove", (event) => {
      if (!this.held && (event.pointerType === "mouse" || event.buttons)) this.moveTo(this.under(event));
    });
    this.source.addEventListener("pointerdown", (event) => {
      this.held = event.pointerType === "mouse" && !this.held;
      this.moveTo(this.under(event));
    });
    this.source.addEventListener("keydown", (event) => this.press(event));
  }

  show(number) {
    const pair = this.pairs[number];
    this.pair = pair;
    this.held = false;
    this.map = unpack(pair.source, pair.scales);
    this.fine = finer(unpack(pair.target, pair.scales), pair.upsample);
    for (const [stage, side] of [[this.source, pair.source], [this.target, pair.target]]) {
      for (const drawing of stage.querySelectorAll("svg")) drawing.setAttribute("viewBox", `0 0 ${side.width} ${side.height}`);
      stage.style.setProperty("--ratio", side.width / side.height);
      stage.querySelector("use").setAttribute("href", `#photo-${side.photo}`);
    }
    this.layCanvas();
    this.chips = pair.keypoints.map((name, i) => {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.textContent = name;
      chip.className = pair.right[i] ? "right" : "wrong";
      if (!pair.right[i]) chip.title = "matched wrongly";
      chip.addEventListener("click", () => { this.held = true; this.moveTo(pair.source.points[i], i); });
      return chip;
    });
    document.getElementById("keypoints").replaceChildren(...this.chips);
    this.moveTo(pair.source.points[0], 0);
  }

  // the map covers its grid, and a letterboxed grid is larger than its photograph
  layCanvas() {
    const { toImage: [ax, bx, ay, by], width, height, grid } = this.pair.target;
    const [left, top] = [ax * -0.5 + bx + 0.5, ay * -0.5 + by + 0.5];
    Object.assign(this.canvas.style, {
      left: `${(100 * left) / width}%`, top: `${(100 * top) / height}%`,
      width: `${(100 * ax * grid[1]) / width}%`, height: `${(100 * ay * grid[0]) / height}%`,
    });
  }

  under(event) {
    const box = this.source.getBoundingClientRect();
    const { width, height } = this.pair.source;
    return [((event.clientX - box.left) / box.width) * width - 0.5, ((event.clientY - box.top) / box.height) * height - 0.5];
  }

  press(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    this.held = true;
    const { toGrid } = this.pair.source;
    const cells = event.shiftKey ? 2 : 0.5;
    this.moveTo([this.point[0] + (way[0] * cells) / toGrid[0], this.point[1] + (way[1] * cells) / toGrid[2]]);
  }

  moveTo([x, y], keypoint = -1) {
    const { width, height } = this.pair.source;
    this.point = [Math.min(Math.max(x, 0), width - 1), Math.min(Math.max(y, 0), height - 1)];
    this.keypoint = keypoint;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const { source, target } = this.pair;
    const [gx, gy] = [this.point[0] * source.toGrid[0] + source.toGrid[1], this.point[1] * source.toGrid[2] + source.toGrid[3]];
    const cosines = similarity(sampled(this.map, gx, gy), this.fine);
    const range = extremes(cosines);
    paint(this.canvas, cosines, this.fine, range);
    const cell = [(range.at % this.fine.width + 0.5) / this.fine.factor - 0.5, (Math.floor(range.at / this.fine.width) + 0.5) / this.fine.factor - 0.5];
    const best = [cell[0] * target.toImage[0] + target.toImage[1], cell[1] * target.toImage[2] + target.toImage[3]];
    document.getElementById("least").textContent = range.least.toFixed(2);
    document.getElementById("most").textContent = range.most.toFixed(2);
    this.mark(best);
    this.tell(best, range.most);
  }

  mark(best) {
    const { source, target, found } = this.pair;
    const others = target.points.map((point) => ["ring", point, "faint"]);
    if (this.keypoint >= 0) others.push(["predicted", found[this.keypoint], ""], ["ring", target.points[this.keypoint], ""]);
    this.marks(this.source, [...source.points.map((point) => ["ring", point, "faint"]), ["dot", this.point, ""]], source);
    this.marks(this.target, [...others, ["best", best, ""]], target);
    this.chips.forEach((chip, i) => chip.setAttribute("aria-pressed", String(i === this.keypoint)));
  }

  marks(stage, told, side) {
    const radius = Math.max(side.width, side.height) / 70;
    const drawn = told.flatMap(([shape, [x, y], faint]) => [["halo", shape], [shape, shape]].map(([look, form]) => {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("class", `${look} ${faint}`);
      path.setAttribute("d", SHAPES[form](x + 0.5, y + 0.5, radius));
      return path;
    }));
    stage.querySelector(".over").replaceChildren(...drawn);
  }

  tell(best, cosine) {
    const at = ([x, y]) => `${Math.round(x)}, ${Math.round(y)}`;
    const words = [`Source ${at(this.point)} is most like target ${at(best)}, cosine ${cosine.toFixed(2)}.`];
    if (this.keypoint >= 0) {
      const { keypoints, target, errors, right, length } = this.pair;
      const truth = target.points[this.keypoint];
      const off = Math.hypot(best[0] - truth[0], best[1] - truth[1]) / length;
      words.push(`Keypoint ${keypoints[this.keypoint]} is truly at ${at(truth)}, ${off.toFixed(3)} of the reference away.`);
      words.push(`Predicted with error ${errors[this.keypoint].toFixed(3)}, ${right[this.keypoint] ? "correct" : "wrong"}.`);
    }
    document.getElementById("told").textContent = words.join(" ");
  }
}

const stored = document.getElementById("pairs");
if (stored) new Explorer(JSON.parse(stored.textContent));
