// What keeps the model from forgetting: progressive unfreezing.
export default settingsPanel("keep", "Keep", () => term("unfreezing", "Keep"));
