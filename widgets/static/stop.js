// When the run stops early, and by which metric the best step is chosen.
export default settingsPanel("stop", "Stop early", () => term("early stopping", "Stop early"));
