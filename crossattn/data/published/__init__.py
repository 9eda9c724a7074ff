"""Published data sets from prepared folders, in the layout that their authors ship."""
