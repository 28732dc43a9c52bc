"use strict";
// What is essential stands in the page without this; it is all text and pictures of the page itself.
(() => {
  const one = (query, root = document) => root.querySelector(query);
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  all("[data-script]").forEach((element) => { element.hidden = false; });

  const dark = one("#dark"), theme = one("#theme");
  let night = matchMedia("(prefers-color-scheme: dark)").matches;
  const paint = () => { theme.textContent = night ? "Light" : "Dark"; };
  theme.addEventListener("click", () => {
    night = !night;
    dark.media = night ? "screen" : "not all";
    paint();
  });
  paint();

  const slider = one("#slider");
  if (slider) threshold(JSON.parse(one("#scores").textContent));

  function threshold(data) {
    const kinds = { g: [], d: [], u: [] };
    data.scores.forEach((score, i) => kinds[data.labels[i]].push(score));
    const steps = [...new Set(data.scores)].sort((a, b) => a - b);
    const value = (place) => (data.log ? 10 ** place : place);
    const first = value(data.low), last = value(data.high), width = data.high - data.low;
    const start = data.threshold ?? steps[steps.length - 1];
    const plot = one("#plot"), level = one("#level"), reset = one("#reset");
    const dot = one("#dot"), beyond = one("#beyond");
    const above = (scores, at) => scores.reduce((n, score) => n + (score > at), 0);
    const place = (at) => {
      const on = data.log ? Math.log10(Math.max(at, first)) : at;
      return Math.min(100, Math.max(0, 100 * (on - data.low) / width));
    };
    const say = (id, k, n) => {
      const small = document.createElement("small");
      small.textContent = n ? ` of ${n}${percent(k, n)}` : "";
      one(`#${id}`).replaceChildren(String(k), small);
    };
    const percent = (k, n) => (n ? ` · ${(100 * k / n).toFixed(k === 0 || k === n ? 0 : 1)} %` : "");
    let at = start;

    function set(next) {
      at = Math.min(last, Math.max(first, next));
      if (next === start) at = start;
      const goods = kinds.g.length, defects = kinds.d.length;
      const rejected = above(kinds.g, at), escaped = defects - above(kinds.d, at);
      const flagged = rejected + defects - escaped + above(kinds.u, at);
      if (goods) say("rejects", rejected, goods);
      if (defects) say("escapes", escaped, defects);
      say("ng", flagged, 0);
      say("ok", data.scores.length - flagged, 0);
      const left = `${place(at)}%`;
      slider.style.left = beyond.style.left = left;
      slider.setAttribute("aria-valuenow", String(at));
      slider.setAttribute("aria-valuetext", `${Number(at.toPrecision(4))}: ${flagged} NG, ${data.scores.length - flagged} OK` +
        (goods ? `, ${rejected} of ${goods} good parts rejected` : "") + (defects ? `, ${escaped} of ${defects} defects escape` : ""));
      if (document.activeElement !== level) level.value = String(Number(at.toPrecision(6)));
      if (dot) {
        dot.setAttribute("cx", String(dot.dataset.side * rejected / goods));
        dot.setAttribute("cy", String(dot.dataset.side * escaped / defects));
      }
      one("#at").textContent = String(Number(at.toPrecision(4)));
      const moved = at !== data.threshold;
      all(".when-moved").forEach((element) => { element.hidden = !moved; });
      all(".when-calibrated").forEach((element) => { element.hidden = moved; });
      reset.disabled = at === start;
    }
    const drag = (event) => {
      const box = plot.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      set(value(data.low + share * width));
    };
    slider.addEventListener("pointerdown", (event) => {
      slider.setPointerCapture(event.pointerId);
      slider.focus();
      event.preventDefault();
    });
    slider.addEventListener("pointermove", (event) => {
      if (slider.hasPointerCapture(event.pointerId)) drag(event);
    });
    plot.addEventListener("click", (event) => { if (event.target !== slider) drag(event); });
    const step = (share) => value((data.log ? Math.log10(at) : at) + share * width);
    const keys = {
      ArrowRight: () => steps.find((score) => score > at) ?? last,
      ArrowLeft: () => steps.findLast((score) => score < at) ?? first,
      PageUp: () => step(0.05), PageDown: () => step(-0.05), Home: () => first, End: () => last,
    };
    keys.ArrowUp = keys.ArrowRight;
    keys.ArrowDown = keys.ArrowLeft;
    slider.addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      set(keys[event.key]());
    });
    level.addEventListener("input", () => {
      if (level.value !== "" && Number.isFinite(level.valueAsNumber)) set(level.valueAsNumber);
    });
    reset.addEventListener("click", () => set(start));
    slider.setAttribute("aria-valuemin", String(first));
    slider.setAttribute("aria-valuemax", String(last));
    set(start);
  }

  all("table.sortable").forEach((table) => {
    all("thead th[data-sort]", table).forEach((head) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending", sign = up ? 1 : -1;
        all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const cell = (row) => row.cells[head.cellIndex];
        const worth = (row) => (cell(row).dataset.value ?? "") === "" ? -Infinity : Number(cell(row).dataset.value);
        const compare = head.dataset.sort === "n"
          ? (a, b) => { const x = worth(a), y = worth(b); return x === y ? 0 : x < y ? -1 : 1; }
          : (a, b) => cell(a).textContent.trim().localeCompare(cell(b).textContent.trim(), "en", { numeric: true });
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
      });
    });
  });

  const rows = all("#all tbody tr"), filters = all("#filters button"), words = one("#words"), shown = one("#shown");
  const filter = () => {
    const wanted = filters.find((button) => button.getAttribute("aria-pressed") === "true").dataset.filter;
    const text = words.value.trim().toLowerCase();
    let count = 0;
    rows.forEach((row) => {
      const fits = (!wanted || row.dataset.is.split(" ").includes(wanted)) && (!text || row.textContent.toLowerCase().includes(text));
      row.hidden = !fits;
      count += fits;
    });
    shown.textContent = `${count} of ${rows.length} shown`;
  };
  filters.forEach((button) => button.addEventListener("click", () => {
    filters.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    filter();
  }));
  if (words) { words.addEventListener("input", filter); filter(); }

  all("[data-copy]").forEach((button) => button.addEventListener("click", async () => {
    const text = one(`#${button.dataset.copy}`), range = document.createRange();
    range.selectNodeContents(text);
    getSelection().removeAllRanges();
    getSelection().addRange(range); // for Ctrl+C, where a page may not write to the clipboard
    try { await navigator.clipboard.writeText(text.textContent); button.textContent = "Copied"; }
    catch { button.textContent = "Selected"; }
  }));

  const shots = all("figure.shot").filter((shot) => one("img", shot)), dialog = one("#zoom"), stage = one("#stage");
  let index = 0;
  const show = (next) => {
    index = (next + shots.length) % shots.length;
    const copy = shots[index].cloneNode(true), panels = one(".panels", copy);
    ["role", "tabindex", "aria-label"].forEach((name) => panels.removeAttribute(name));
    stage.replaceChildren(copy);
    one("#where").textContent = `${index + 1} of ${shots.length}`;
  };
  shots.forEach((shot, i) => {
    const panels = one(".panels", shot);
    panels.tabIndex = 0;
    panels.setAttribute("role", "button");
    panels.setAttribute("aria-label", `Enlarge ${one(".path", shot).textContent}`);
    const open = () => { show(i); dialog.showModal(); };
    panels.addEventListener("click", open);
    panels.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); }
    });
  });
  one("#previous").addEventListener("click", () => show(index - 1));
  one("#next").addEventListener("click", () => show(index + 1));
  one("#close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(index + 1);
    else if (event.key === "ArrowLeft") show(index - 1);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
})();
