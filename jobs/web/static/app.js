// Draws figures when they come into view, opens their tables, changes the theme. Pages hold without it.
"use strict";
(() => {
  const { plotly, mark } = document.currentScript.dataset;
  // Plotly.js 3 writes style attributes as text, which the page's policy forbids; through the object model they may be.
  const write = Element.prototype.setAttribute;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style" && this.style) this.style.cssText = value;
    else write.call(this, name, value);
  };
  let loading = null;
  const load = () => (loading ??= new Promise((done, failed) => {
    if (mark) {  // stands for the style of its maps, which are not drawn here: it looks whether that is there already
      const stand = document.createElement("meta");
      stand.id = mark;
      document.head.append(stand);
    }
    const script = document.createElement("script");
    script.src = plotly;
    script.onload = done;
    script.onerror = () => failed(new Error("Plotly's script did not come"));
    document.head.append(script);
  }));
  const say = (place, text) => {
    const line = document.createElement("p");
    line.className = "warn";
    line.textContent = text;
    place.replaceChildren(line);
  };
  const draw = async (place) => {
    try {
      const [answer] = await Promise.all([fetch(place.dataset.figure, { headers: { accept: "application/json" } }), load()]);
      const made = await answer.json();
      if (!answer.ok) return say(place, made.detail ?? answer.statusText);
      place.replaceChildren();
      place.style.minHeight = `${made.layout.height}px`;
      await window.Plotly.newPlot(place, made.data, made.layout, {
        displaylogo: false, responsive: true, typesetMath: false,
        displayModeBar: place.clientWidth < 480 ? false : undefined,  // on a phone it would lie over the title
      });
      place.dataset.drawn = "yes";
      place.on("plotly_click", (event) => {
        const asset = event.points?.[0]?.customdata;
        if (place.dataset.opens === "asset" && typeof asset === "string") location.href = `/asset?id=${encodeURIComponent(asset)}`;
      });
    } catch (error) {
      say(place, String(error.message ?? error));
    }
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "200px" });
  for (const place of document.querySelectorAll("[data-figure]")) seen.observe(place);

  for (const details of document.querySelectorAll("details[data-table]")) {
    details.addEventListener("toggle", async () => {
      if (!details.open || details.dataset.filled) return;
      details.dataset.filled = "yes";
      const answer = await fetch(details.dataset.table, { headers: { accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const table = page.querySelector("main .scroll");
      if (table) details.append(document.importNode(table, true));
    });
  }

  document.getElementById("theme")?.addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
    const search = document.querySelector("input[type=search]");
    if (search) { event.preventDefault(); search.focus(); }
  });
  for (const form of document.querySelectorAll("form.filters")) {
    form.addEventListener("change", (event) => { if (event.target.matches("select")) form.requestSubmit(); });
  }
})();
