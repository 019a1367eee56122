// What htmx does not do: the time that is left, and the keys. Pages work without it.
(() => {
  "use strict";

  const spoken = (seconds) => {
    if (seconds <= 0) return "time is over";
    const h = Math.floor(seconds / 3600), m = Math.floor((seconds % 3600) / 60), s = Math.floor(seconds % 60);
    return h ? `${h} h ${m} min left` : m ? `${m} min ${s} s left` : `${s} s left`;
  };

  // By the server's clock, which each list brings along.
  const tick = () => {
    for (const place of document.querySelectorAll("[data-expires]")) {
      const clock = place.closest("[data-now]");
      if (!clock) continue;
      clock.dataset.skew ??= String(Number(clock.dataset.now) - Date.now() / 1000);
      const left = Number(place.dataset.expires) - Date.now() / 1000 - Number(clock.dataset.skew);
      place.textContent = spoken(left);
      place.classList.toggle("soon", left < 120);
    }
  };
  setInterval(tick, 1000);
  document.addEventListener("htmx:afterSwap", tick);
  tick();

  const asks = () => [...document.querySelectorAll("article.ask")];
  const current = () => document.activeElement?.closest("article.ask") ?? asks()[0];

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) {
      if (event.key === "Escape") event.target.closest("article.ask")?.focus();
      return;
    }
    const ask = current();
    if (!ask) return;
    const all = asks(), place = all.indexOf(ask), here = ask.contains(document.activeElement);
    const target = {
      a: () => ask.querySelector("button.yes"),
      r: () => ask.querySelector("button.no"),
      c: () => ask.querySelector("textarea"),
      j: () => (here ? all[Math.min(place + 1, all.length - 1)] : ask),
      k: () => all[Math.max(place - 1, 0)],
    }[event.key]?.();
    if (!target) return;
    event.preventDefault();
    target.focus();
    target.scrollIntoView({ block: "nearest" });
  });
})();
